"""Records made by hand, a store, and a wheel made here: the replay room needs no recorder to be tested."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from repro.evidence.model import CodeFile, DataFile, Dataset, Fact, Package, PackageChange, Program, Record, Run
from repro.evidence.store import Store
from repro.replay import plan
from repro.replay.data import Inspection
from repro.replay.machine import Machine

RUN = Run(
    run_id="0123456789ab",
    replay_of=None,
    argv=("python", "train.py"),
    root="/home/me/project",
    working_directory=".",
    started_at="2026-11-20T10:00:00.000000Z",
    ended_at="2026-11-20T10:00:10.000000Z",
    wall_seconds=10.0,
    cpu_seconds=9.0,
    peak_memory_bytes=1000,
    status="completed",
    exit_code=0,
    signal=None,
    recorder_version="0.1.0",
)


class Make:
    """Makes rows of a record, each with what the test does not care about filled in."""

    run = RUN

    def record(self, *, run: dict[str, Any] | None = None, **tables: Any) -> Record:
        return Record(run=replace(RUN, **(run or {})), **tables)

    def fact(self, topic: str, name: str, value: str) -> Fact:
        return Fact(topic=topic, name=name, value=value, source="observed")

    def file(self, path: str, content: bytes = b"x", **more: Any) -> DataFile:
        values: dict[str, Any] = {
            "path": path,
            "role": "input",
            "category": "data",
            "size_bytes": len(content),
            "dataset": None,
            "digest": self.digest(content),
            "modified_at": "2026-11-20T09:00:00.000000Z",
            "process_key": "main",
            "library": "python",
            "seen_by": "both",
            "changed_during_run": False,
        }
        return DataFile(**{**values, **more})

    def code(self, path: str, content: bytes = b"", **more: Any) -> CodeFile:
        values: dict[str, Any] = {"path": path, "kind": "file", "mode": 0o644, "state": "plain"}
        values |= {"size_bytes": len(content), "sha256": self.digest(content)}
        return CodeFile(**{**values, **more})

    def package(self, name: str, version: str = "1.0", **more: Any) -> Package:
        values: dict[str, Any] = {
            "location": "/env/lib",
            "origin": "index",
            "direct_url": None,
            "record_sha256": None,
            "wheel_sha256": None,
        }
        return Package(name=name, version=version, **{**values, **more})

    def dataset(self, name: str, count: int, **more: Any) -> Dataset:
        values: dict[str, Any] = {"kind": "folder", "file_count": count, "size_bytes": count, "reference": None}
        return Dataset(**{"name": name, **values, "digest": self.digest(name.encode()), **more})

    def program(self, path: str, content: bytes | None = b"x", argv: tuple[str, ...] = ()) -> Program:
        return Program(
            ordinal=0,
            process_key="main",
            pid=1,
            parent_pid=0,
            path=path,
            argv=argv or (path,),
            sha256=None if content is None else self.digest(content),
            started_at="2026-11-20T10:00:01.000000Z",
        )

    def edit(self, package: str, path: str) -> PackageChange:
        digest = self.digest(b"published")
        return PackageChange(package=package, path=path, state="missing", recorded_sha256=digest, found_sha256=None)

    def digest(self, content: bytes) -> str:
        return f"sha256:{hashlib.sha256(content).hexdigest()}"

    def plan(
        self, record: Record, inspection: Inspection | None = None, machine: Machine | None = None, **options: Any
    ) -> plan.Plan:
        settings: dict[str, Any] = {"locked": {}, "imports": frozenset(), **options}
        return plan.make(record, inspection or Inspection(), machine or Machine(), **settings)


@pytest.fixture
def make() -> Make:
    return Make()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def lines() -> list[str]:
    """What was reported as progress, where a test passes `lines.append`."""
    return []


@pytest.fixture
def wheel(tmp_path: Path) -> Callable[..., tuple[Path, str]]:
    """Make a wheel with one module and one program in it, and return it with its line for a lock."""

    def build(name: str = "tiny", version: str = "1.0", source: str = "VALUE = 1\n") -> tuple[Path, str]:
        info = f"{name}-{version}.dist-info"
        files = {
            f"{name}.py": source,
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/entry_points.txt": f"[console_scripts]\n{name}-say = {name}:main\n",
        }
        record = "".join(f"{path},sha256={_record_hash(text)},{len(text)}\n" for path, text in files.items())
        path = tmp_path / "index" / f"{name}-{version}-py3-none-any.whl"
        path.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(path, "w") as archive:
            for member, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
                archive.writestr(member, text)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return path, f"{name}=={version} \\\n    --hash=sha256:{digest}\n"

    return build


def _record_hash(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give pip nothing but a folder of files."""
    folder = tmp_path / "index"
    folder.mkdir(exist_ok=True)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", folder.as_uri())
    return folder
