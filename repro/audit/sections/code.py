"""Code trees and command lines."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from repro.audit.arguments import named_arguments
from repro.audit.difference import Difference, facts, keyed, replaying
from repro.audit.outputs import outputs
from repro.evidence.model import CodeFile, Record


def code(left: Record, right: Record) -> Iterator[Difference]:
    """Compare code trees file by file, then what git says of them."""
    ours, theirs = ({row.path: row for row in record.code_files} for record in (left, right))
    for path in sorted({*ours, *theirs} - overwritten(left, right)):
        before, after = ours.get(path), theirs.get(path)
        note = _code_note(before, after)
        if note:
            yield Difference(
                section="code",
                name=path,
                left=before.sha256 if before else None,
                right=after.sha256 if after else None,
                note=note,
            )
    if not replaying(left, right):
        yield from facts("code", "code", left, right)


def overwritten(left: Record, right: Record) -> set[str]:
    """Return the code files that are outputs: of both runs, or of either where a replay starts without them."""
    if replaying(left, right):
        return {*outputs(left), *outputs(right)}
    return outputs(left).keys() & outputs(right).keys()


def _code_note(left: CodeFile | None, right: CodeFile | None) -> str:
    if left is None or right is None:
        return "added" if left is None else "removed"
    notes = []
    if left.sha256 != right.sha256:
        notes.append("content changed")
    if left.kind != right.kind:
        notes.append(f"{left.kind} became {right.kind}")
    if left.mode != right.mode:
        notes.append(f"mode {left.mode:04o} became {right.mode:04o}")
    return ", ".join(notes)


def arguments(left: Record, right: Record) -> Iterator[Difference]:
    """Compare the command lines, and where they ran."""
    absolute = replaying(left, right)
    before, after = (_argv(record, absolute=absolute) for record in (left, right))
    yield from keyed("arguments", named_arguments(before), named_arguments(after))
    ours, theirs = ({"working directory": record.run.working_directory} for record in (left, right))
    yield from keyed("arguments", ours, theirs)


def _argv(record: Record, *, absolute: bool) -> tuple[str, ...]:
    """Return the command; a replay calls a program of the environment by its whole path, as that is not in its tree."""
    argv, run = record.run.argv, record.run
    if not absolute or not argv or "/" not in argv[0]:
        return argv
    return (posixpath.normpath(posixpath.join(run.root, run.working_directory, argv[0])), *argv[1:])
