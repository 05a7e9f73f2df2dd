"""Which file each checkpoint is: under its last name, by its digest. Pure: events and rows in, rows out.

A digest is a file's at the end, or of what was first read; a checkpoint has it if the file stood as it does there, by
size and time of modification, when it was written or read. What was written through a file object that was still open
then is known by its size, and by being the last that was written to that file. What went to memory, by its digest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from repro.evidence.model import Checkpoint, DataFile
from repro.evidence.times import utc_ns
from repro.record.eventlog import Events, Rename
from repro.record.files.territory import Territory
from repro.record.kernel.log import KernelEvents, Renamed

Key = tuple[str, int]
"""Process key and ordinal."""


def located(
    events: Events, kernel: KernelEvents | None, files: Iterable[DataFile], territory: Territory
) -> tuple[Checkpoint, ...]:
    """Return the checkpoints with the path that their file has at the end, as `DataFile.path`, and its digest.

    Args:
        events: What the agent told.
        kernel: What the kernel layer saw; `None` where there was none.
        files: The rows of files.
        territory: Knows how paths are written.
    """
    by_path, by_digest = _found(files)
    moved = _Names(events, kernel, territory)
    placed = [replace(row, path=moved.at_the_end(row)) if row.path else row for row in events.checkpoints]
    last = _last_written(events, placed)
    return tuple(
        _with_digest(row, events.checkpoint_files.get(_key(row), (None, None)), by_path, last)
        if row.path
        else _from_memory(row, by_digest)
        for row in placed
    )


def moment(events: Events) -> Mapping[str, float]:
    """Return when each process started, in seconds since the epoch."""
    return {start.process_key: start.started_at for start in events.starts}


def _key(row: Checkpoint) -> Key:
    return row.process_key, row.ordinal


def _found(files: Iterable[DataFile]) -> tuple[dict[str, list[DataFile]], dict[str, str]]:
    by_path: dict[str, list[DataFile]] = defaultdict(list)
    by_digest: dict[str, str] = {}
    for row in files:
        if row.digest is not None and row.digest.startswith("sha256:"):
            by_path[row.path].append(row)
            if row.role == "output":
                by_digest.setdefault(row.digest, row.path)
    return by_path, by_digest


def _last_written(events: Events, rows: Sequence[Checkpoint]) -> set[Key]:
    """Return the checkpoints that were the last to be written to their file."""
    started = moment(events)
    ordered = sorted(rows, key=lambda row: started.get(row.process_key, 0.0) + row.at_seconds)
    return set({row.path: _key(row) for row in ordered if row.action == "written"}.values())


def _with_digest(
    row: Checkpoint, stood: tuple[int | None, int | None], by_path: Mapping[str, list[DataFile]], last: set[Key]
) -> Checkpoint:
    size_bytes, mtime_ns = stood
    for file in by_path.get(row.path, ()):
        if size_bytes is None or file.size_bytes != size_bytes:
            continue
        if mtime_ns is None:
            same = row.action == "written" and file.role == "output" and _key(row) in last
        else:
            same = file.modified_at == utc_ns(mtime_ns)
        if same:
            return replace(row, file_digest=file.digest)
    return row


def _from_memory(row: Checkpoint, by_digest: Mapping[str, str]) -> Checkpoint:
    path = by_digest.get(row.file_digest or "")
    return row if path is None else replace(row, path=path)


class _Names:
    """The names that files got after they were written, by renaming them or a folder above them."""

    def __init__(self, events: Events, kernel: KernelEvents | None, territory: Territory) -> None:
        self._territory = territory
        self._started = moment(events)
        renames: list[Rename | Renamed] = [*events.renames, *(kernel.renames if kernel is not None else ())]
        self._renames = sorted(renames, key=lambda each: each.at)

    def at_the_end(self, row: Checkpoint) -> str:
        """Return the path of a checkpoint's file at the end of the run; of one that was read, when it was."""
        return self._territory.relative(self._followed(row) if row.action == "written" else row.path)

    def _followed(self, row: Checkpoint) -> str:
        path = row.path
        for rename in self._later(self._started.get(row.process_key, 0.0) + row.at_seconds):
            if path == rename.source or path.startswith(rename.source + "/"):
                path = rename.target + path[len(rename.source) :]
        return path

    def _later(self, at: float) -> Iterator[Rename | Renamed]:
        return (rename for rename in self._renames if rename.at > at)
