"""Checkpoints of two runs, tensor by tensor: which of them differ, where their files do.

Files of equal tensors differ where something else in them does: a time, a name, the version of a library. Tensors are
matched by their names, and their contents by their fingerprints (`docs/adr/0011`, "Checkpoint").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from repro.evidence.model import Checkpoint, CheckpointTensor, Record

NAMED: Final = 8
"""Tensors that are named; the others are counted."""
_UNREAD: Final = "-" * 16

Key = tuple[str, str, str, int]
"""Process key, action, path, and how often that was done before in the process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointComparison:
    """One checkpoint on both sides."""

    process_key: str
    action: str
    """`written` or `read`."""
    path: str
    """Empty where it went to no file."""
    again: int
    """How often the process had done so with this path before."""
    left: Checkpoint | None
    right: Checkpoint | None
    differing: int
    """Tensors that differ, or that one side alone has."""
    of: int
    """Tensors that there are, on either side."""
    unread: int
    """Of the others, those that have no fingerprint on a side."""
    tensors: tuple[str, ...]
    """The first that differ, with shape and type, at most `NAMED`."""

    @property
    def equal(self) -> bool:
        """Whether both sides have it, and all tensors are there and equal."""
        return self.left is not None and self.right is not None and not self.differing and not self.unread

    @property
    def extent(self) -> str:
        """How much of it differs: `1 of 13 tensors: 0.weight [8, 4] float32`; empty where nothing does."""
        if not self.differing:
            return ""
        more = self.differing - 1
        number = f"{self.of:,} tensor{'s' * (self.of != 1)}"
        return f"{self.differing:,} of {number}: {self.tensors[0]}" + (f" and {more:,} more" if more else "")


def compare_checkpoints(left: Record, right: Record) -> tuple[CheckpointComparison, ...]:
    """Compare what both runs wrote and read, in the order of processes, files and times; as `rebase` leaves paths."""
    ours, theirs = _by_key(left), _by_key(right)
    our_tensors, their_tensors = _tensors(left), _tensors(right)
    found = []
    for key in sorted({*ours, *theirs}):
        before, after = ours.get(key), theirs.get(key)
        sides = _held(before, our_tensors), _held(after, their_tensors)
        found.append(_compared(key, before, after, *sides))
    return tuple(found)


def last_written(compared: Iterable[CheckpointComparison]) -> dict[str, tuple[CheckpointComparison, ...]]:
    """Return, by path, what each process wrote there last."""
    last: dict[tuple[str, str], CheckpointComparison] = {}
    for each in compared:
        if each.action == "written" and each.path:
            last[each.path, each.process_key] = each
    found: dict[str, tuple[CheckpointComparison, ...]] = {}
    for (path, _), each in last.items():
        found[path] = (*found.get(path, ()), each)
    return found


def _by_key(record: Record) -> dict[Key, Checkpoint]:
    found: dict[Key, Checkpoint] = {}
    times: dict[tuple[str, str, str], int] = {}
    for row in sorted(record.checkpoints, key=lambda row: (row.process_key, row.ordinal)):
        name = row.process_key, row.action, row.path
        found[(*name, times.get(name, 0))] = row
        times[name] = times.get(name, 0) + 1
    return found


def _tensors(record: Record) -> dict[tuple[str, int], list[CheckpointTensor]]:
    found: dict[tuple[str, int], list[CheckpointTensor]] = {}
    for row in record.checkpoint_tensors:
        found.setdefault((row.process_key, row.checkpoint), []).append(row)
    return found


def _held(
    checkpoint: Checkpoint | None, tensors: Mapping[tuple[str, int], list[CheckpointTensor]]
) -> dict[tuple[str, int], CheckpointTensor]:
    """Return a checkpoint's tensors by name, and how often that name was there before."""
    found: dict[tuple[str, int], CheckpointTensor] = {}
    times: dict[str, int] = {}
    rows = [] if checkpoint is None else tensors.get((checkpoint.process_key, checkpoint.ordinal), [])
    for row in rows:
        found[row.name, times.get(row.name, 0)] = row
        times[row.name] = times.get(row.name, 0) + 1
    return found


def _compared(
    key: Key,
    before: Checkpoint | None,
    after: Checkpoint | None,
    left: Mapping[tuple[str, int], CheckpointTensor],
    right: Mapping[tuple[str, int], CheckpointTensor],
) -> CheckpointComparison:
    process_key, action, path, again = key
    both = before is not None and after is not None
    names = list(dict.fromkeys([*left, *right]))
    differing = [name for name in names if _differ(left.get(name), right.get(name))] if both else []
    unread = [name for name in names if _UNREAD in (_word(left.get(name)), _word(right.get(name)))] if both else []
    return CheckpointComparison(
        process_key=process_key,
        action=action,
        path=path,
        again=again,
        left=before,
        right=after,
        differing=len(differing),
        of=len(names),
        unread=len(set(unread) - set(differing)),
        tensors=tuple(_described(left.get(name) or right[name]) for name in differing[:NAMED]),
    )


def _word(row: CheckpointTensor | None) -> str:
    return "" if row is None else row.word


def _differ(left: CheckpointTensor | None, right: CheckpointTensor | None) -> bool:
    if left is None or right is None or (left.shape, left.dtype) != (right.shape, right.dtype):
        return True
    return _UNREAD not in (left.word, right.word) and left.word != right.word


def _described(row: CheckpointTensor) -> str:
    return f"{row.name} {row.shape} {row.dtype}"


def phrases(compared: Iterable[CheckpointComparison]) -> Iterator[tuple[CheckpointComparison, str]]:
    """Yield the checkpoints that differ in a tensor, or that one side alone has, each with what to say of it."""
    for each in compared:
        if each.left is None or each.right is None:
            yield each, f"only {each.action} on the {'right' if each.left is None else 'left'}"
        elif each.differing:
            yield each, each.extent
