"""The files of checkpoints, and the runs that this run goes on from. After `data`, which hashes the files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from repro.errors import ReproError
from repro.evidence.model import Checkpoint, Continuation, Gap
from repro.evidence.times import utc
from repro.record.capture import Context, Findings
from repro.record.eventlog import Events

_UNREAD: Final = "-" * 16
"""In the place of the fingerprint of a tensor that could not be read."""


def after(context: Context) -> Findings:
    """Name each checkpoint's file, and find the sealed run that wrote what this one read."""
    events = context.events
    if events is None or not events.checkpoints:
        return Findings()
    from repro.record.files.checkpoints import located
    from repro.record.files.territory import Territory

    files = context.findings.data_files
    rows = located(events, context.kernel, files, Territory(context))
    gaps: list[Gap] = []
    return Findings(
        checkpoints=rows, continuations=tuple(_continuations(context, events, rows, gaps)), gaps=tuple(gaps)
    )


def _continuations(
    context: Context, events: Events, rows: tuple[Checkpoint, ...], gaps: list[Gap]
) -> Iterator[Continuation]:
    started = {start.process_key: start.started_at for start in events.starts}
    times = {(row.process_key, row.ordinal): started.get(row.process_key, 0.0) + row.at_seconds for row in rows}
    read = [row for row in rows if row.action == "read" and not _own(row, rows, times)]
    if not read:
        return
    unread = {(row.process_key, row.checkpoint) for row in events.checkpoint_tensors if row.word == _UNREAD}
    from repro.evidence.store import Store
    from repro.evidence.writers import Writers

    try:
        with Writers(Store(context.home)) as writers:
            writers.refresh(until=lambda: context.patience.spent)
            for row in read:
                key = row.process_key, row.ordinal
                found = writers.of(row, before=utc(times[key]), whole=key not in unread)
                if found is not None:
                    yield found
    except ReproError as error:
        gaps.append(Gap(topic="recorder", subject="checkpoints that were read", reason=error.message))


def _own(read: Checkpoint, rows: tuple[Checkpoint, ...], times: Mapping[tuple[str, int], float]) -> bool:
    """Say whether this run wrote what it read: it does not go on from itself."""
    at = times[read.process_key, read.ordinal]
    same = (row for row in rows if row.action == "written" and row.digest == read.digest)
    return any(times[row.process_key, row.ordinal] < at for row in same)
