"""Inputs: datasets first, each as one thing, then the files that belong to none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Final

from repro.audit.difference import Difference, replaying
from repro.audit.digests import comparable, same_content
from repro.audit.outputs import bytecode
from repro.audit.wording import counted
from repro.evidence.model import DataFile, Dataset, Record

_SECTION: Final = "data"


def data(left: Record, right: Record) -> Iterator[Difference]:
    """Compare inputs by path and content. What changed of one dataset is one difference, with the first file named."""
    found = list(_files(left, right))
    ours, theirs = ({row.name: row for row in record.datasets if row.file_count > 1} for record in (left, right))
    belongs = {row.path: row.dataset for record in (right, left) for row in record.data_files if row.role == "input"}
    grouped: dict[str, list[Difference]] = defaultdict(list)
    alone: list[Difference] = []
    for difference in found:
        name = belongs.get(difference.name)
        whole = name is not None and (name in ours or name in theirs)
        (grouped[str(name)] if whole else alone).append(difference)
    for name in sorted({*grouped, *ours, *theirs}):
        before, after = ours.get(name), theirs.get(name)
        note = "; ".join(_notes(before, after, grouped.get(name, [])))
        if note:
            sides = (before.digest if before else None), (after.digest if after else None)
            yield Difference(section=_SECTION, name=name, left=sides[0], right=sides[1], note=note)
    yield from alone


def _notes(left: Dataset | None, right: Dataset | None, changed: list[Difference]) -> Iterator[str]:
    """Say in what a dataset differs; nothing where one side alone has it and yet read no other file."""
    if changed:
        total = max(side.file_count for side in (left, right) if side)
        yield f"{len(changed):,} of {counted(total, 'file')}: {_summary(changed)}"
    if left is None or right is None:
        return
    if left.reference != right.reference:
        yield f"reference {left.reference or 'none'} became {right.reference or 'none'}"
    # What was declared is hashed whole, and else what was read: only the like can be compared.
    alike = (left.kind, left.file_count) == (right.kind, right.file_count)
    if not changed and alike and comparable(left.digest, right.digest) and left.digest != right.digest:
        yield "the digests of the whole differ, although no file that the records list does"


def _summary(changed: list[Difference]) -> str:
    """Count what happened to the files of a dataset, and name the first of each kind."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for difference in changed:
        kinds[difference.note].append(difference.name)
    return "; ".join(f"{len(names):,} {note} (first {names[0]})" for note, names in kinds.items())


def _files(left: Record, right: Record) -> Iterator[Difference]:
    ours, theirs = _inputs(left), _inputs(right)
    gone, new = (
        {path: ours[path] for path in ours.keys() - theirs},
        {path: theirs[path] for path in theirs.keys() - ours},
    )
    for old, path in _moved(gone, new):
        del gone[old], new[path]
        yield Difference(section=_SECTION, name=old, left=old, right=path, note="same content under another path")
    for path in unseen(left, right):
        gone.pop(path, None)
        new.pop(path, None)
    for path in sorted({*gone, *new, *(ours.keys() & theirs)}):
        before, after = ours.get(path), theirs.get(path)
        note = _note(before, after)
        if note:
            yield Difference(section=_SECTION, name=path, left=_digest(before), right=_digest(after), note=note)


def unseen(left: Record, right: Record) -> tuple[str, ...]:
    """Return the inputs that one side alone has and that the other side could not have: nothing there would see them.

    Those are files that the kernel layer alone saw, where it watched one of the runs only; and, where one run is a
    replay, files that the user declared: a replay declares nothing.
    """
    ours, theirs = _inputs(left), _inputs(right)
    blind = watched(left) != watched(right)
    one_sided = [ours[p] for p in ours.keys() - theirs] + [theirs[p] for p in theirs.keys() - ours]
    hidden = {"kernel"} if blind else set()
    hidden |= {"declared"} if replaying(left, right) else set()
    return tuple(sorted(row.path for row in one_sided if row.seen_by in hidden))


def watched(record: Record) -> bool:
    """Say whether the kernel layer watched a run."""
    return "kernel" in (record.fact("data", "lineage_layers") or "")


def _inputs(record: Record) -> dict[str, DataFile]:
    tree = {row.path for row in record.code_files}
    return {
        row.path: row
        for row in record.data_files
        if row.role == "input"
        and (row.category in ("data", "environment") or (row.category == "code" and row.path not in tree))
        and not bytecode(row.path)
    }


def _moved(gone: Mapping[str, DataFile], new: Mapping[str, DataFile]) -> list[tuple[str, str]]:
    """Pair files that only one side has and whose content is the same, each at most once."""
    by_digest: dict[str, list[str]] = {}
    for path in sorted(new, reverse=True):
        if new[path].digest is not None:
            by_digest.setdefault(str(new[path].digest), []).append(path)
    return [(old, by_digest[key].pop()) for old in sorted(gone) if by_digest.get(key := str(gone[old].digest))]


def _digest(row: DataFile | None) -> str | None:
    return None if row is None else row.digest or "not hashed"


def _note(left: DataFile | None, right: DataFile | None) -> str:
    if left is None or right is None:
        return "only read on the right" if left is None else "only read on the left"
    if left.digest is None or right.digest is None:
        return "cannot be compared: not hashed on both sides"
    if not comparable(left.digest, right.digest):
        return "cannot be compared: hashed with different algorithms"
    return "" if same_content(left.digest, right.digest) else "content changed"
