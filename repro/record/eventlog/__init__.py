"""Read what the agent wrote: one file per process, one JSON object a line, as `schemas/event-1.json` says.

A process may be killed at any moment, so a file may end in NUL bytes or half a line: both are dropped. Anything else
that cannot be read becomes a gap, never an exception: the run is sealed with what is there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from repro.evidence.canonical import storable
from repro.evidence.model import Gap
from repro.record.eventlog import points
from repro.record.eventlog.chain import BROKEN, Chain
from repro.record.eventlog.kinds import Events, Exit, Log, Open, Remove, Rename, Spawn, Start
from repro.record.eventlog.readers import READERS, start_of
from repro.record.eventlog.trace import close_chain

__all__ = ["BROKEN", "Events", "Exit", "Open", "Remove", "Rename", "Spawn", "Start", "first_start", "read"]

_PIECE_BYTES: Final = 1024 * 1024
"""Of a log that are read at once, up to the end of a line: logs of gigabytes are never in memory whole."""


def read(directory: Path) -> Events:
    """Return everything in a folder of event logs, oldest process first."""
    events = Events()
    for path in _logs(directory):
        _read_log(path, events)
    return events


def first_start(directory: Path) -> Start | None:
    """Return how the first Python process started, or `None` while none has reported."""
    for path in _logs(directory):
        try:
            with path.open("rb") as file:
                line = file.readline()
        except OSError:
            continue
        if not line.endswith(b"\n"):
            return None
        if start := _start(line):
            return start
    return None


def _logs(directory: Path) -> list[Path]:
    """Return the logs, oldest first: their names are `<pid>-<time_ns>.jsonl`."""
    try:
        return sorted(directory.glob("*.jsonl"), key=lambda path: (path.stem.rpartition("-")[2].zfill(20), path.name))
    except OSError:
        return []


def _read_log(path: Path, events: Events) -> None:
    try:
        with path.open("rb") as file:
            start = _start(file.readline())
            if start is None:
                reason = (
                    "a process woke the agent, but its log does not begin with a readable start: nothing in it was used"
                )
                events.gaps.append(Gap(topic="agent", subject=path.name, reason=reason))
                return
            events.starts.append(start)
            log = Log(start=start, events=events, chain=Chain(start.process_key))
            _read_events(log, _pieces(file))
            points.read(path.with_suffix(".points"), log)
    except OSError as error:
        reason = f"its event log could not be read: {error.strerror}"
        events.gaps.append(Gap(topic="agent", subject=path.name, reason=reason))


def _start(line: bytes) -> Start | None:
    """Read how a process started; `None` where a log begins with anything else."""
    try:
        return start_of(json.loads(line)) if line.endswith(b"\n") else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    """Yield a log in pieces of whole lines; what follows the last newline is half a line or NUL bytes."""
    while lines := file.readlines(_PIECE_BYTES):
        if not lines[-1].endswith(b"\n"):
            del lines[-1]
        yield b"".join(lines)


def _read_events(log: Log, pieces: Iterable[bytes]) -> None:
    broken = 0
    unknown: set[str] = set()
    for piece in pieces:
        for line in piece.split(b"\n")[:-1]:
            try:
                event = json.loads(line)
                reader = READERS.get(event["event"])
                if reader is None:
                    unknown.add(storable(str(event["event"]))[:80])
                else:
                    reader(log, event)
            except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
                broken += 1
    close_chain(log)
    key, reasons = (
        log.start.process_key,
        [f"events of an unknown kind {name!r} were not used" for name in sorted(unknown)],
    )
    if broken:
        reasons.append(f"{broken} lines of its event log could not be read")
    log.events.gaps += (Gap(topic="agent", subject=key, reason=reason) for reason in reasons)
