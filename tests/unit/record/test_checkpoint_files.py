"""Which file each checkpoint is: by its last name, by how it stood, by its digest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from repro.evidence.model import DataFile
from repro.evidence.times import utc_ns
from repro.record import eventlog
from repro.record.files.checkpoints import located
from repro.record.files.territory import Territory
from repro.record.kernel.log import KernelEvents, Renamed

STARTED = 1_700_000_000.5


def event(path: str, at: float, action: str = "written", **more: Any) -> dict[str, Any]:
    return {
        "event": "checkpoint", "action": action, "path": path, "library": "torch", "steps": {}, "names": ["a"],
        "shapes": [[2]], "dtypes": ["float32"], "words": "0" * 16, "state": {}, "sha256": None, "at": at, **more,
    }  # fmt: skip


def rename(source: str, target: str, at: float) -> dict[str, Any]:
    return {"event": "rename", "source": source, "target": target, "at": at}


def digest(digit: str) -> str:
    return f"sha256:{digit * 64}"


def file(path: str, digit: str, *, role: Any = "output", size: int = 9, mtime_ns: int = 5) -> DataFile:
    return DataFile(
        path=path, role=role, category="data", dataset=None, size_bytes=size, digest=digest(digit),
        modified_at=utc_ns(mtime_ns), process_key="main", library="torch", seen_by="both", changed_during_run=False,
    )  # fmt: skip


@pytest.fixture
def look(write_log: Any, context: Any, tmp_path: Path) -> Any:
    """Return a function that reads a log of these events, and returns path and digest of each checkpoint in it."""

    def run(*events: dict[str, Any], files: tuple[DataFile, ...] = (), kernel: Any = None) -> list[tuple[str, Any]]:
        root = tmp_path / "project"
        root.mkdir(exist_ok=True)
        told = [{k: v.replace("ROOT", str(root)) if isinstance(v, str) else v for k, v in e.items()} for e in events]
        read = eventlog.read(write_log(*told))
        assert [] == read.gaps
        return [(row.path, row.file_digest) for row in located(read, kernel, files, Territory(context(root)))]

    return run


def test_a_file_that_is_written_over_has_the_digest_of_its_last_state(look) -> None:
    rows = event("ROOT/a.pt", 1.0, size=9, mtime_ns=5_000), event("ROOT/a.pt", 2.0, size=9, mtime_ns=7_000)
    found = look(*rows, files=(file("a.pt", "1", mtime_ns=7_000),))
    assert [("a.pt", None), ("a.pt", digest("1"))] == found
    assert [("a.pt", None)] * 2 == look(*rows, files=(file("a.pt", "1", mtime_ns=9_000),)), "somebody else wrote it"
    assert [("a.pt", None)] * 2 == look(*rows, files=(file("a.pt", "1", size=8, mtime_ns=7_000),))


def test_what_was_read_and_then_written_over_has_both_digests(look) -> None:
    rows = event("ROOT/a.pt", 1.0, "read", size=9, mtime_ns=5_000), event("ROOT/a.pt", 2.0, size=9, mtime_ns=7_000)
    files = file("a.pt", "1", role="input", mtime_ns=5_000), file("a.pt", "2", mtime_ns=7_000)
    assert [("a.pt", digest("1")), ("a.pt", digest("2"))] == look(*rows, files=files)


def test_an_atomic_save_ends_under_its_last_name(look) -> None:
    events = (
        event("ROOT/tmp", 1.0, size=9, mtime_ns=5_000),
        rename("ROOT/tmp", "ROOT/last.pt", 1.1),
        rename("ROOT/last.pt", "ROOT/before.pt", 1.9),
        event("ROOT/tmp", 2.0, size=9, mtime_ns=7_000),
        rename("ROOT/tmp", "ROOT/last.pt", 2.1),
        event("ROOT/step-1/model.pt", 3.0),
        rename("ROOT/step-1", "/elsewhere/step-2", 3.1),
    )
    files = file("last.pt", "1", mtime_ns=7_000), file("before.pt", "2", mtime_ns=5_000)
    assert [("before.pt", digest("2")), ("last.pt", digest("1")), ("/elsewhere/step-2/model.pt", None)] == look(
        *events, files=files
    )


def test_a_rename_that_the_kernel_alone_saw_counts(look, tmp_path: Path) -> None:
    kernel = KernelEvents(layer="seccomp")
    root = tmp_path / "project"
    kernel.renames.append(Renamed(pid=1, source=f"{root}/tmp", target=f"{root}/a.pt", at=STARTED + 2))
    assert [("a.pt", None)] == look(event("ROOT/tmp", 1.0), kernel=kernel)
    assert [("tmp", None)] == look(event("ROOT/tmp", 3.0), kernel=kernel), "it was written afterwards"


def test_a_file_that_was_still_open_is_known_by_its_size_and_by_being_the_last(look) -> None:
    rows = event("ROOT/a.pt", 1.0, size=9), event("ROOT/a.pt", 2.0, size=9)
    assert [("a.pt", None), ("a.pt", digest("1"))] == look(*rows, files=(file("a.pt", "1"),))
    assert [("a.pt", None)] == look(event("ROOT/a.pt", 1.0, size=8), files=(file("a.pt", "1"),))
    assert [("a.pt", None)] == look(event("ROOT/a.pt", 1.0), files=(file("a.pt", "1"),)), "nothing is known of it"


def test_what_went_to_memory_is_found_by_its_digest(look) -> None:
    found = look(event("", 1.0, sha256=digest("1")), event("", 2.0), files=(file("a.pt", "1"),))
    assert [("a.pt", digest("1")), ("", None)] == found
