"""Make a golden run: a sealed run with something in every table, to be verified by every later version.

    PYTHONPATH=. python tests/golden/make.py tests/golden/1

The private key is thrown away. A directory that was released is never made again: a later format gets its own.
"""

from __future__ import annotations

import os
import struct
import sys
import tempfile
from pathlib import Path

from repro.evidence import seal
from repro.evidence.model import (
    Checkpoint,
    CheckpointState,
    CheckpointTensor,
    CodeFile,
    Continuation,
    DataFile,
    Dataset,
    Entropy,
    Fact,
    FileChange,
    Fingerprint,
    Gap,
    GeneratorState,
    Hyperparameter,
    Metric,
    Model,
    ModelModule,
    ModelTensor,
    Operation,
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
from repro.evidence.objects import Objects
from repro.evidence.store import Store

DIGEST = "sha256:" + "5f" * 32
NAN = struct.unpack(">d", bytes.fromhex("7ff8000000000123"))[0]
VALUES = (2.302585, -0.0, float("inf"), NAN, 5e-324, 1 / 3)


def sample(run_id: str, objects: Objects) -> Record:
    """Return a record with rows in every table, in the order of their keys, and put the objects that it refers to."""
    source = objects.put(b"print('hello')\n")
    return Record(
        run=Run(
            run_id=run_id,
            replay_of=None,
            argv=("python", "train.py", "--name", "naïve ✓", "--token", "<redacted>"),
            root="/home/ann/project",
            working_directory=".",
            started_at="2026-03-01T09:00:00.000001Z",
            ended_at="2026-03-01T09:00:12.500000Z",
            wall_seconds=12.499999,
            cpu_seconds=20.25,
            peak_memory_bytes=512 * 1024**2,
            status="completed",
            exit_code=0,
            signal=None,
            recorder_version="0.1.0",
        ),
        processes=(process("main", None, 100), process("main/fork.1", "main", 101)),
        facts=(
            Fact(topic="code", name="commit", value="0" * 40, source="observed"),
            Fact(topic="code", name="diff", value=objects.put(b"--- a\n+++ b\n"), source="observed"),
            Fact(topic="code", name="dirty", value="true", source="observed"),
            Fact(topic="environment", name="lock", value=objects.put(b"torch==2.13.0\n"), source="observed"),
            Fact(topic="environment", name="python_version", value="3.11.7", source="observed"),
            Fact(topic="hardware", name="cpu_model", value="An honest processor", source="observed"),
            Fact(topic="randomness", name="hash_seed", value="1234567890", source="observed"),
            Fact(topic="stream", name="stdout_sha256", value=objects.put(b"hello\n"), source="observed"),
            Fact(topic="trace", name="chain.main", value="c4" * 32, source="observed"),
            Fact(topic="trace", name="every", value="4", source="observed"),
        ),
        gaps=(Gap(topic="lock", subject="sample", reason="it is installed in editable mode"),),
        code_files=(
            CodeFile(path="data\\xff", kind="symlink", mode=0o777, size_bytes=15, sha256=source, state="untracked"),
            CodeFile(path="train.py", kind="file", mode=0o644, size_bytes=15, sha256=source, state="modified"),
        ),
        packages=(
            Package(
                name="torch",
                version="2.13.0+cpu",
                location="/usr/lib/python3",
                origin="index",
                direct_url=None,
                record_sha256=DIGEST,
                wheel_sha256=objects.put(b"a wheel"),
            ),
        ),
        package_changes=(
            PackageChange(
                package="torch",
                path="/usr/lib/python3/torch/nn/modules/loss.py",
                state="changed",
                recorded_sha256=DIGEST,
                found_sha256=source,
            ),
        ),
        system_packages=(
            SystemPackage(manager="dpkg", name="libc6", version="2.36-9+deb12u9", architecture="amd64", build=None),
        ),
        shared_objects=(
            SharedObject(
                path="/usr/lib/x86_64-linux-gnu/libc.so.6",
                build_id="93ac526e0fab8b5e8a9a5c8e1d3ab4d6f8d01f5c",
                size_bytes=1_922_136,
                sha256=DIGEST,
                owner="libc6 2.36-9+deb12u9",
            ),
        ),
        data_files=(
            data_file("/etc/gone", "input", "system", None),
            data_file("best.pt", "output", "data", DIGEST),
            data_file("data/train.npz", "input", "data", DIGEST),
            data_file("lib/model.py", "input", "code", source),
        ),
        datasets=(Dataset(name="data", kind="folder", file_count=1, size_bytes=15, digest=DIGEST, reference=None),),
        file_changes=(
            FileChange(ordinal=0, action="renamed", path="best.tmp", target="best.pt", process_key="main"),
            FileChange(ordinal=1, action="removed", path="lock", target=None, process_key="main>cp"),
        ),
        programs=(
            Program(
                ordinal=0,
                process_key="main",
                pid=100,
                parent_pid=99,
                path="/usr/bin/python3",
                argv=("python", "train.py", "--token", "<redacted>"),
                sha256=DIGEST,
                started_at="2026-03-01T09:00:00.050000Z",
            ),
        ),
        seeds=(
            Seed(process_key="main", ordinal=0, function="torch.manual_seed", argument=str(2**64 - 1), site="t.py:3"),
        ),
        entropy=(Entropy(process_key="main", stream="numpy.randbits", ordinal=0, value=str(2**127), site="t.py:9"),),
        generator_states=(GeneratorState(process_key="main", moment="end", generator="torch.cpu", sha256=DIGEST),),
        settings=(Setting(process_key="main", moment="import", name="torch.num_threads", value="2"),),
        metrics=tuple(
            Metric(process_key="main", name="loss", step=i, value=value, dtype="float32", at_seconds=i / 8)
            for i, value in enumerate(VALUES)
        ),
        traced_tensors=(traced("bias", "[2]", 0), traced("weight", "[2, 3]", 1)),
        fingerprints=(
            fingerprint(0, 0, "rng.torch", "00112233445566ff"),
            fingerprint(0, 1, "gradient", "0123456789abcdef" + "-" * 16),
            fingerprint(4, 0, "parameter", "fedcba9876543210" * 2),
        ),
        hyperparameters=(
            Hyperparameter(
                process_key="main", source="argparse", name="optimizer.lr", ordinal=0, value="0.1", site="t.py:5"
            ),
            Hyperparameter(
                process_key="main", source="argparse", name="token", ordinal=0, value="<redacted>", site="t.py:5"
            ),
        ),
        models=(Model(process_key="main", ordinal=0, anchor="optimizer.0", step=0, class_name="t.Net", digest=DIGEST),),
        model_modules=(ModelModule(process_key="main", model=0, place=0, path="", class_name="t.Net"),),
        model_tensors=(
            ModelTensor(
                process_key="main",
                model=0,
                place=0,
                name="weight",
                kind="parameter",
                shape="[2, 3]",
                dtype="float32",
                device="cpu",
                word="0123456789abcdef",
            ),
        ),
        checkpoints=(
            Checkpoint(
                process_key="main",
                ordinal=0,
                action="read",
                path="start.pt",
                library="torch",
                steps="{}",
                tensor_count=1,
                digest=DIGEST,
                file_digest=None,
                at_seconds=0.25,
            ),
        ),
        checkpoint_tensors=(
            CheckpointTensor(
                process_key="main",
                checkpoint=0,
                place=0,
                name="model.weight",
                shape="[2, 3]",
                dtype="float32",
                word="0123456789abcdef",
            ),
        ),
        checkpoint_states=(CheckpointState(process_key="main", checkpoint=0, name="rng.torch", value="AAAA"),),
        continuations=(
            Continuation(
                process_key="main",
                checkpoint=0,
                from_run_id="20260228T090000Z-000000000000",
                from_process_key="main",
                from_checkpoint=3,
                matched_by="content",
                steps='{"optimizer.0":112}',
            ),
        ),
        operations=(
            Operation(
                process_key="main",
                anchor="optimizer.0",
                step=0,
                place=0,
                name="aten::mm",
                inputs="float32[64,10], float32[10,3]",
                words="0123456789abcdef",
                site="t.py:12",
            ),
        ),
        tolerances=(Tolerance(metric="loss", absolute=1e-6),),
    )


def process(key: str, parent: str | None, pid: int) -> Process:
    return Process(
        process_key=key,
        parent_key=parent,
        pid=pid,
        argv=("python", "train.py"),
        executable="/usr/bin/python3",
        python_version="3.11.7",
        rank=None if parent is None else 0,
        world_size=None,
        started_at="2026-03-01T09:00:00.100000Z",
        ended_at=None if parent else "2026-03-01T09:00:12.000000Z",
        attempt=0 if parent is None else 1,
        exit_code=None,
        signal=None if parent is None else "SIGKILL",
        exited_at=None if parent is None else "2026-03-01T09:00:11.250000Z",
    )


def traced(name: str, shape: str, ordinal: int) -> TracedTensor:
    return TracedTensor(
        process_key="main",
        anchor="optimizer.0",
        step=0,
        ordinal=ordinal,
        name=name,
        shape=shape,
        dtype="float32",
        device="cpu",
    )


def fingerprint(step: int, place: int, field: str, words: str) -> Fingerprint:
    return Fingerprint(
        process_key="main",
        anchor="optimizer.0",
        step=step,
        place=place,
        field=field,
        words=words,
        at_seconds=0.5 + step,
    )


def data_file(path: str, role: str, category: str, digest: str | None) -> DataFile:
    return DataFile(
        path=path,
        role=role,  # type: ignore[arg-type]
        category=category,  # type: ignore[arg-type]
        dataset="data" if path.startswith("data/") else None,
        size_bytes=None if digest is None else 15,
        digest=digest,
        modified_at=None if digest is None else "2026-02-01T00:00:00.000000Z",
        process_key="main",
        library="python",
        seen_by="both",
        changed_during_run=digest is None,
    )


def main(target: Path) -> None:
    os.umask(0o022)
    with tempfile.TemporaryDirectory() as keys:
        store = Store(target)
        store.keys = Path(keys) / "keys"
        directory = store.create_run()
        seal.seal_run(sample(directory.run_id, store.objects), directory, store)
        (target / "signing.pub").write_bytes((store.keys / "signing.pub").read_bytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
