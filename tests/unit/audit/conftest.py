"""A run of a small training and replays of it, as records made by hand and sealed with a real key."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from repro.evidence import canonical, integrity, seal, trust
from repro.evidence.model import (
    CodeFile,
    DataFile,
    Dataset,
    Entropy,
    Fact,
    Fingerprint,
    Gap,
    GeneratorState,
    Metric,
    Package,
    PackageChange,
    Process,
    Program,
    Record,
    Run,
    Seed,
    Setting,
    SharedObject,
    SystemPackage,
    Tolerance,
    TracedTensor,
)
from repro.evidence.store import RunDirectory, Store

ROOT = "/home/ada/digits"
SCRATCH = "/tmp/repro-scratch-1/tree"
VENV = "/home/ada/.venv"
BUILT = "/var/repro/cache/venvs/1a2b"


def float32(value: float) -> float:
    return struct.unpack(">f", struct.pack(">f", value))[0]


def digest(text: str) -> str:
    return canonical.digest(text.encode())


def losses(count: int = 60, *, process_key: str = "main", wrong_from: int | None = None) -> tuple[Metric, ...]:
    def value(step: int) -> float:
        exact = 2.3 * math.exp(-step / (count / 3)) + 0.08 * math.sin(step * 1.7) + 0.12
        return float32(
            exact + (0.001 * (step - wrong_from + 1) if wrong_from is not None and step >= wrong_from else 0)
        )

    return tuple(
        Metric(process_key=process_key, name="loss", step=s, value=value(s), dtype="float32", at_seconds=s * 0.1)
        for s in range(count)
    )


def rates(*changes: tuple[int, float], process_key: str = "main") -> tuple[Metric, ...]:
    return tuple(
        Metric(process_key=process_key, name="learning_rate.0", step=s, value=v, dtype="float64", at_seconds=s * 0.1)
        for s, v in changes
    )


TENSORS = (("0.weight", "[64, 3]", "float32"), ("0.bias", "[64]", "float32"), ("6.weight", "[10, 64]", "bfloat16"))
TRACED = (0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 32)
_OF_TENSORS = ("weight", "gradient", "parameter", "state")


def word(*parts: object) -> str:
    return digest(" ".join(map(str, parts))).removeprefix("sha256:")[:16]


def sketch(*numbers: float) -> str:
    return struct.pack(">8d", *numbers).hex()


def tensors(rows: Any = TENSORS, *, process_key: str = "main", anchor: str = "optimizer.0", step: int = 0) -> tuple:
    return tuple(
        TracedTensor(
            process_key=process_key,
            anchor=anchor,
            step=step,
            ordinal=place,
            name=name,
            shape=shape,
            dtype=dtype,
            device="cpu",
        )
        for place, (name, shape, dtype) in enumerate(rows)
    )


def fields_of(step: int, steps: tuple[int, ...]) -> tuple[str, ...]:
    """Return what is told of a step: `weight` is, where the step before was traced."""
    before = ("order", "batch", "rng.torch", "rng.numpy", "rng.python", *(["weight"] if step - 1 in steps else []))
    return (*before, "gradient", "hyperparameter", "parameter", "state", "sketch")


def told(field: str, step: int, process_key: str, anchor: str) -> str:
    if field == "sketch":
        return sketch(*(3.0 + place + 0.01 * step for place in range(8)))
    if field == "rng.python":  # nobody draws from it
        return word(field, process_key)
    if field == "hyperparameter":
        return word(field, anchor)
    count = len(TENSORS) if field in _OF_TENSORS else 1
    content = ("parameter", step - 1) if field == "weight" else (field, step)
    return "".join(word(*content, process_key, anchor, place) for place in range(count))


def fingerprints(
    steps: tuple[int, ...] = TRACED, *, process_key: str = "main", anchor: str = "optimizer.0", late: float = 0.0
) -> tuple[Fingerprint, ...]:
    return tuple(
        Fingerprint(
            process_key=process_key,
            anchor=anchor,
            step=step,
            place=place,
            field=field,
            words=told(field, step, process_key, anchor),
            at_seconds=late + step + place / 100,
        )
        for step in steps
        for place, field in enumerate(fields_of(step, steps))
    )


def altered(record: Record, step: int, field: str, *places: int, **where: str) -> Record:
    """Return a record with other fingerprints of a field of one step, at some places of it."""

    def otherwise(row: Fingerprint) -> Fingerprint:
        if (row.step, row.field) != (step, field) or any(getattr(row, name) != value for name, value in where.items()):
            return row
        words = [row.words[i : i + 16] for i in range(0, len(row.words), 16)]
        for place in places or (0,):
            words[place] = word("other", field, step, place)
        return replace(row, words="".join(words))

    return replace(record, fingerprints=tuple(map(otherwise, record.fingerprints)))


def traced(record: Record, *processes: str, every: str | None = "16", **options: Any) -> Record:
    """Return a record with a training trace of some processes, `main` if none is named."""
    names = processes or ("main",)
    settings = tuple(
        Setting(process_key=name, moment="first-step", name="trace.every", value=every) for name in names if every
    )
    return replace(
        record,
        settings=(*record.settings, *settings),
        traced_tensors=tuple(row for name in names for row in tensors(process_key=name)),
        fingerprints=tuple(row for name in names for row in fingerprints(process_key=name, **options)),
    )


def output(path: str, content: str, library: str = "python", **changes: Any) -> DataFile:
    return DataFile(
        **{
            "path": path,
            "role": "output",
            "category": "data",
            "size_bytes": len(content),
            "dataset": None,
            "digest": digest(content),
            "modified_at": "2026-11-20T14:03:41.000000Z",
            "process_key": "main",
            "library": library,
            "seen_by": "both",
            "changed_during_run": False,
            **changes,
        }
    )


def read(path: str, content: str, **changes: Any) -> DataFile:
    return output(path, content, **{"role": "input", "library": "numpy", **changes})


def code(path: str, content: str, **changes: Any) -> CodeFile:
    return CodeFile(
        **{
            "path": path,
            "kind": "file",
            "mode": 0o644,
            "size_bytes": len(content),
            "sha256": digest(content),
            "state": "committed",
            **changes,
        }
    )


def package(name: str, version: str, location: str = f"{VENV}/lib/python3.11/site-packages", **changes: Any) -> Package:
    return Package(
        **{
            "name": name,
            "version": version,
            "location": location,
            "origin": "index",
            "direct_url": None,
            "record_sha256": digest(name + version + location),
            "wheel_sha256": None,
            **changes,
        }
    )


def dataset(name: str, count: int, content: str, **changes: Any) -> Dataset:
    row = {"kind": "folder", "file_count": count, "size_bytes": 100 * count, "digest": digest(content)}
    return Dataset(**{"name": name, **row, "reference": None, **changes})


def edit(package: str, path: str, found: str | None = "edited") -> PackageChange:
    return PackageChange(
        package=package,
        path=path,
        state="changed" if found else "missing",
        recorded_sha256=digest("as installed"),
        found_sha256=digest(found) if found else None,
    )


def library(path: str, build_id: str | None, owner: str | None = None) -> SharedObject:
    return SharedObject(path=path, build_id=build_id, size_bytes=1000, sha256=digest(f"{build_id}"), owner=owner)


def program(path: str, content: str = "binary", ordinal: int = 0, **changes: Any) -> Program:
    row = {"ordinal": ordinal, "process_key": "main", "pid": 5000 + ordinal, "parent_pid": 4711, "argv": (path, "-x")}
    row |= {"sha256": digest(content), "started_at": "2026-11-20T14:03:23.000000Z"}
    return Program(**{"path": path, **row, **changes})


def system_package(name: str, version: str, **changes: Any) -> SystemPackage:
    return SystemPackage(
        **{"manager": "dpkg", "name": name, "version": version, "architecture": "amd64", "build": None, **changes}
    )


def facts(topic: str, **values: str) -> tuple[Fact, ...]:
    return tuple(Fact(topic=topic, name=name, value=value, source="observed") for name, value in values.items())


def original_record(**changes: Any) -> Record:
    run = Run(
        run_id="a1b2c3d4e5f6",
        replay_of=None,
        argv=(f"{VENV}/bin/python", "train.py", "--lr", "0.05", "--data", f"{ROOT}/data/train.npz"),
        root=ROOT,
        working_directory=".",
        started_at="2026-11-20T14:03:22.123456Z",
        ended_at="2026-11-20T14:03:42.654321Z",
        wall_seconds=20.53,
        cpu_seconds=37.125,
        peak_memory_bytes=731_000_000,
        status="completed",
        exit_code=0,
        signal=None,
        recorder_version="0.1.0",
    )
    record = Record(
        run=run,
        processes=(
            Process(
                process_key="main",
                parent_key=None,
                pid=4711,
                argv=(f"{VENV}/bin/python", "train.py"),
                executable=f"{VENV}/bin/python",
                python_version="3.11.7",
                rank=None,
                world_size=None,
                started_at="2026-11-20T14:03:22.200000Z",
                ended_at="2026-11-20T14:03:42.600000Z",
            ),
        ),
        facts=(
            *facts("code", commit="4f" * 20, branch="main", dirty="false", tree=digest("tree")),
            *facts("environment", python_version="3.11.7", executable=f"{VENV}/bin/python", libc="glibc 2.36"),
            *facts("variable", LANG="C.UTF-8", PYTHONPATH=f"{ROOT}/src:{ROOT}/lib", OMP_NUM_THREADS="2"),
            *facts("hardware", cpu_model="AMD EPYC 9B14", cpu_count="2", memory_bytes="8589934592"),
            *facts("randomness", hash_seed="123", hash_seed_source="chosen by repro"),
            *facts("stream", stdout_sha256=digest("stdout"), stdout_size_bytes="6"),
            *facts("data", lineage="complete", lineage_layers="agent, kernel (seccomp)"),
        ),
        code_files=(code("train.py", "import torch"), code("model.py", "class Net"), code("run.sh", "#!", mode=0o755)),
        packages=(package("torch", "2.13.0"), package("numpy", "2.4.0"), package("scikit-learn", "1.8.0")),
        data_files=(
            read("data/train.npz", "train"),
            read("data/test.npz", "test"),
            output("runs/best.pt", "weights", "torch"),
            output("runs/last.pt", "weights at the end", "torch"),
            output("runs/timing.json", "20.5 s"),
            output("__pycache__/model.cpython-311.pyc", "bytecode", category="code"),
        ),
        seeds=(
            Seed(process_key="main", ordinal=0, function="torch.manual_seed", argument="7", site=f"{ROOT}/train.py:12"),
        ),
        entropy=(
            Entropy(
                process_key="main", stream="numpy.randbits", ordinal=0, value="98765432109876543210", site="train.py:9"
            ),
            Entropy(process_key="main", stream="numpy.randbits", ordinal=1, value="12345", site="train.py:9"),
        ),
        generator_states=(
            GeneratorState(process_key="main", moment="first-step", generator="torch.cpu", sha256=digest("state")),
        ),
        settings=tuple(
            Setting(process_key="main", moment=moment, name=name, value=value)
            for moment in ("import", "first-step", "end")
            for name, value in (("torch.num_threads", "2"), ("torch.deterministic_algorithms", "False"))
        ),
        metrics=(*losses(), *rates((0, 0.05), (40, 0.005))),
    )
    return replace(record, **changes)


def replay_record(original: Record | None = None, **changes: Any) -> Record:
    """The same run again, in a scratch directory and an environment of its own, as a replay records it."""
    first = original or original_record()

    def moved(text: str) -> str:
        return text.replace(ROOT, SCRATCH).replace(VENV, BUILT)

    run = replace(
        first.run,
        run_id="0f1e2d3c4b5a",
        replay_of=first.run.run_id,
        argv=tuple(map(moved, first.run.argv)),
        root=SCRATCH,
        started_at="2026-11-20T15:10:01.000000Z",
        ended_at="2026-11-20T15:10:20.000000Z",
        wall_seconds=19.1,
    )
    record = replace(
        first,
        run=run,
        processes=tuple(
            replace(p, pid=99, argv=tuple(map(moved, p.argv)), executable=moved(p.executable)) for p in first.processes
        ),
        facts=(
            *(replace(f, value=moved(f.value)) for f in first.facts if f.topic not in ("code", "stream")),
            *facts("replay", executor="venv", path_map=json.dumps([[ROOT, SCRATCH], [VENV, BUILT]])),
            *facts("stream", stdout_sha256=digest("stdout")),
        ),
        code_files=tuple(replace(row, state="plain") for row in first.code_files),
        packages=tuple(
            replace(p, location=moved(p.location), record_sha256=digest(p.name + moved(p.location)))
            for p in first.packages
        ),
        data_files=tuple(
            replace(row, digest=digest("bytecode with another time") if row.path.endswith(".pyc") else row.digest)
            for row in first.data_files
        ),
        seeds=tuple(replace(s, site=moved(s.site)) for s in first.seeds),
    )
    return replace(record, **changes)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


@pytest.fixture
def sealed(store: Store) -> Callable[[Record], RunDirectory]:
    """Seal a record in the store under its own run id."""

    def seal_it(record: Record) -> RunDirectory:
        path = store.runs_path / record.run.run_id
        path.mkdir(parents=True, mode=0o700)
        for text in ("import torch", "class Net", "#!", "stdout"):
            store.objects.put(text.encode())
        directory = RunDirectory(path=path)
        seal.seal_run(record, directory, store)
        return directory

    return seal_it


@pytest.fixture
def examined(store: Store, sealed: Callable[[Record], RunDirectory]) -> Callable[[Record], integrity.Integrity]:
    """Seal a record and examine it."""

    def examine(record: Record) -> integrity.Integrity:
        return integrity.examine(sealed(record), store, trust.trusted_keys(store))

    return examine


@pytest.fixture
def make() -> SimpleNamespace:
    """The builders above, for tests."""
    return SimpleNamespace(
        original=original_record,
        replay=replay_record,
        losses=losses,
        rates=rates,
        output=output,
        read=read,
        code=code,
        package=package,
        dataset=dataset,
        edit=edit,
        library=library,
        program=program,
        system_package=system_package,
        facts=facts,
        digest=digest,
        float32=float32,
        traced=traced,
        altered=altered,
        tensors=tensors,
        fingerprints=fingerprints,
        sketch=sketch,
        gap=lambda topic, subject="main", reason="it was not seen": Gap(topic=topic, subject=subject, reason=reason),
        tolerance=lambda metric, absolute: Tolerance(metric=metric, absolute=absolute),
        root=ROOT,
        scratch=SCRATCH,
    )
