"""Which files a run left behind, and whether another run left the same bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Literal

from repro.audit.digests import comparable
from repro.audit.rebase import rebase
from repro.evidence.model import DataFile, Record

State = Literal["identical", "differs", "only-left", "only-right", "not-hashed"]

JUDGED: Final = ("data", "code")
"""Categories of outputs that count: a temporary file or a system path is nothing that a run leaves behind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputComparison:
    """One output file on both sides."""

    path: str
    library: str
    """What wrote it; `torch` marks a checkpoint."""
    left_sha256: str | None
    right_sha256: str | None
    state: State

    @property
    def checkpoint(self) -> bool:
        """Whether torch wrote it, so that it holds the model."""
        return self.library == "torch"


def outputs(record: Record) -> dict[str, DataFile]:
    """Return the files that a run left behind, by path, without Python's own bytecode caches."""
    return {
        row.path: row
        for row in record.data_files
        if row.role == "output" and row.category in JUDGED and not bytecode(row.path)
    }


def bytecode(path: str) -> bool:
    """Whether a path is a bytecode cache: it holds its source's time stamp, so it differs in every copy."""
    return path.endswith((".pyc", ".pyo")) and "__pycache__" in PurePosixPath(path).parts


def compare_outputs(left: Record, right: Record) -> tuple[OutputComparison, ...]:
    """Compare the outputs of two runs by path and content, sorted by path."""
    ours, theirs = outputs(rebase(left)), outputs(rebase(right))
    return tuple(_compare(path, ours.get(path), theirs.get(path)) for path in sorted({*ours, *theirs}))


def _compare(path: str, left: DataFile | None, right: DataFile | None) -> OutputComparison:
    row = left or right
    assert row is not None  # noqa: S101 - the path came from one of the two
    return OutputComparison(
        path=path,
        library=row.library,
        left_sha256=left.digest if left else None,
        right_sha256=right.digest if right else None,
        state=_state(left, right),
    )


def _state(left: DataFile | None, right: DataFile | None) -> State:
    if left is None:
        return "only-right"
    if right is None:
        return "only-left"
    if not comparable(left.digest, right.digest):
        return "not-hashed"
    return "identical" if left.digest == right.digest else "differs"
