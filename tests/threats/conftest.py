"""A store of one's own, a record with rows in every table, and a run sealed from it."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from repro.evidence import seal
from repro.evidence.model import Record
from repro.evidence.objects import Objects
from repro.evidence.store import RunDirectory, Store

_sample: Callable[[str, Objects], Record] = runpy.run_path(str(Path(__file__).parents[1] / "golden" / "make.py"))[
    "sample"
]


@dataclass(frozen=True)
class SealedRun:
    store: Store
    directory: RunDirectory
    record: Record
    sealed: seal.Sealed


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


@pytest.fixture
def sample() -> Callable[[str, Objects], Record]:
    return _sample


@pytest.fixture
def record(store: Store) -> Record:
    return _sample("0123456789ab", store.objects)


@pytest.fixture
def sealed(store: Store) -> SealedRun:
    directory = store.create_run()
    record = _sample(directory.run_id, store.objects)
    return SealedRun(store=store, directory=directory, record=record, sealed=seal.seal_run(record, directory, store))


@pytest.fixture
def rewrite() -> Callable[[Path, bytes], Any]:
    """Return a function that writes to a file which is read-only."""

    def write(path: Path, data: bytes) -> None:
        path.chmod(0o644)
        path.write_bytes(data)

    return write
