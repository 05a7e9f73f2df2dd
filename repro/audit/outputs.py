"""Which files a run left behind, and whether another run left the same bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Literal

from repro.audit.checkpoints import CheckpointComparison, compare_checkpoints, last_written
from repro.audit.digests import comparable
from repro.audit.rebase import rebase
from repro.evidence.model import DataFile, Record

State = Literal["identical", "same-tensors", "differs", "only-left", "only-right", "not-hashed"]
"""`same-tensors`: other bytes, of a checkpoint all of whose tensors are equal."""

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
    held: tuple[CheckpointComparison, ...] = ()
    """What each process that wrote it as a checkpoint put into it last."""

    @property
    def checkpoint(self) -> bool:
        """Whether torch wrote it, or any library that tells of tensors, so that it holds the model."""
        return self.library == "torch" or bool(self.held)

    @property
    def same(self) -> bool:
        """Whether it holds the same: the same bytes, or the same tensors."""
        return self.state in ("identical", "same-tensors")

    @property
    def extent(self) -> str:
        """How much of a checkpoint differs: `1 of 13 tensors: 0.weight [8, 4] float32`; empty where that is unknown."""
        return next((each.extent for each in self.held if each.extent), "")


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
    before, after = rebase(left), rebase(right)
    ours, theirs = outputs(before), outputs(after)
    held = last_written(compare_checkpoints(before, after))
    return tuple(_compare(p, ours.get(p), theirs.get(p), held.get(p, ())) for p in sorted({*ours, *theirs}))


def _compare(
    path: str, left: DataFile | None, right: DataFile | None, held: tuple[CheckpointComparison, ...]
) -> OutputComparison:
    row = left or right
    assert row is not None  # noqa: S101 - the path came from one of the two
    return OutputComparison(
        path=path,
        library=row.library,
        left_sha256=left.digest if left else None,
        right_sha256=right.digest if right else None,
        state="same-tensors" if _holds_the_same(left, right, held) else _state(left, right),
        held=held,
    )


def _holds_the_same(left: DataFile | None, right: DataFile | None, held: tuple[CheckpointComparison, ...]) -> bool:
    """Say whether other bytes hold the same tensors: where the file is, on both sides, still what was written so."""
    if left is None or right is None or not comparable(left.digest, right.digest) or left.digest == right.digest:
        return False
    return bool(held) and all(
        each.equal
        and (each.left and each.left.file_digest) == left.digest
        and (each.right and each.right.file_digest) == right.digest
        for each in held
    )


def _state(left: DataFile | None, right: DataFile | None) -> State:
    if left is None:
        return "only-right"
    if right is None:
        return "only-left"
    if not comparable(left.digest, right.digest):
        return "not-hashed"
    return "identical" if left.digest == right.digest else "differs"
