"""Read what the agent wrote: one file per process, one JSON object a line, as `schemas/event-1.json` says.

A process may be killed at any moment, so a file may end in NUL bytes or half a line: both are dropped. Anything else
that cannot be read becomes a gap, never an exception: the run is sealed with what is there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, cast

from repro.evidence.canonical import storable
from repro.evidence.model import Entropy, Gap, GeneratorState, Metric, Moment, Seed, Setting

SCHEMA: Final = 1
_MAX_BIGINT: Final = 2**63 - 1
_MOMENTS: Final = ("import", "first-step", "end")


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A process in which the agent woke up."""

    process_key: str
    parent_key: str | None
    pid: int
    argv: tuple[str, ...]
    executable: str
    prefix: str
    base_prefix: str
    python_version: str
    implementation: str
    build: str
    path: tuple[str, ...]
    rank: int | None
    world_size: int | None
    started_at: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """A file was opened; the state is the file's at that time, just before the open."""

    process_key: str
    path: str
    mode: Literal["read", "write"]
    library: str
    at: float
    size_bytes: int | None
    mtime_ns: int | None
    inode: int | None
    existed: bool
    ctime_ns: int | None = None
    device: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rename:
    """A file or directory was asked to get another name."""

    source: str
    target: str
    at: float
    process_key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """A file was asked to be removed."""

    path: str
    at: float
    process_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Spawn:
    """A process started another program."""

    process_key: str
    executable: str
    argv: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class Events:
    """All that the agent saw, grouped by kind; each list in the order of the files, then of the lines."""

    starts: list[Start] = field(default_factory=list)
    ended_at: dict[str, float] = field(default_factory=dict)
    """Process key to seconds since the epoch, of the processes that said goodbye."""
    libraries: list[tuple[str, str, str]] = field(default_factory=list)
    """Process key, library, version."""
    opens: list[Open] = field(default_factory=list)
    renames: list[Rename] = field(default_factory=list)
    removes: list[Remove] = field(default_factory=list)
    canaries: set[str] = field(default_factory=set)
    """Keys of the processes whose agent opened the canary, and saw itself do it."""
    spawns: list[Spawn] = field(default_factory=list)
    seeds: list[Seed] = field(default_factory=list)
    substituted: list[tuple[str, str]] = field(default_factory=list)
    """Process key and function or stream, where a replay put the recorded value in place of another."""
    entropy: list[Entropy] = field(default_factory=list)
    states: list[GeneratorState] = field(default_factory=list)
    settings: list[Setting] = field(default_factory=list)
    metrics: list[Metric] = field(default_factory=list)
    mapped: set[str] = field(default_factory=set)
    """Paths of what any process had mapped as code when it said goodbye."""
    gaps: list[Gap] = field(default_factory=list)


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
            return _start(json.loads(line)) if line.endswith(b"\n") else None
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _logs(directory: Path) -> list[Path]:
    """Return the logs, oldest first: their names are `<pid>-<time_ns>.jsonl`."""
    try:
        return sorted(directory.glob("*.jsonl"), key=lambda path: (path.stem.rpartition("-")[2].zfill(20), path.name))
    except OSError:
        return []


def _lines(data: bytes) -> Iterator[bytes]:
    """Split a log in whole lines; what follows the last newline is half a line or NUL bytes."""
    end = data.rfind(b"\n")
    return iter(data[: end + 1].split(b"\n")[:-1]) if end >= 0 else iter(())


def _read_log(path: Path, events: Events) -> None:
    try:
        lines = _lines(path.read_bytes())
    except OSError as error:
        events.gaps.append(
            Gap(topic="agent", subject=path.name, reason=f"its event log could not be read: {error.strerror}")
        )
        return
    try:
        start = _start(json.loads(next(lines)))
    except (StopIteration, ValueError, KeyError, TypeError, RecursionError):
        reason = "a process woke the agent, but its log does not begin with a readable start: nothing in it was used"
        events.gaps.append(Gap(topic="agent", subject=path.name, reason=reason))
        return
    events.starts.append(start)
    _read_events(start, lines, events)


def _read_events(start: Start, lines: Iterator[bytes], events: Events) -> None:
    broken = 0
    unknown: set[str] = set()
    for line in lines:
        try:
            event = json.loads(line)
            handler = _HANDLERS.get(event["event"])
            if handler is None:
                unknown.add(storable(str(event["event"]))[:80])
            else:
                handler(start, event, events)
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
            broken += 1
    for name in sorted(unknown):
        events.gaps.append(
            Gap(topic="agent", subject=start.process_key, reason=f"events of an unknown kind {name!r} were not used")
        )
    if broken:
        events.gaps.append(
            Gap(topic="agent", subject=start.process_key, reason=f"{broken} lines of its event log could not be read")
        )


def _start(event: Mapping[str, Any]) -> Start:
    if event["event"] != "start" or event["schema"] != SCHEMA:
        raise ValueError("not a start event of this version")
    return Start(
        process_key=_text(event["process_key"]),
        parent_key=None if event.get("parent_key") is None else _text(event["parent_key"]),
        pid=_integer(event["pid"]),
        argv=_words(event["argv"]),
        executable=_text(event["executable"]),
        prefix=_text(event["prefix"]),
        base_prefix=_text(event["base_prefix"]),
        python_version=_text(event["python_version"]),
        implementation=_text(event["implementation"]),
        build=_text(event["build"]),
        path=_words(event["path"]),
        rank=_maybe_integer(event.get("rank")),
        world_size=_maybe_integer(event.get("world_size")),
        started_at=_real(event["started_at"]),
    )


def _on_start(start: Start, event: Mapping[str, Any], events: Events) -> None:
    raise ValueError("a second start in one log")


def _on_end(start: Start, event: Mapping[str, Any], events: Events) -> None:
    events.ended_at[start.process_key] = _real(event["ended_at"])


def _on_library(start: Start, event: Mapping[str, Any], events: Events) -> None:
    events.libraries.append((start.process_key, _text(event["name"]), _text(event["version"])))


def _on_open(start: Start, event: Mapping[str, Any], events: Events) -> None:
    mode = event["mode"]
    if mode not in ("read", "write"):
        raise ValueError("neither read nor write")
    events.opens.append(
        Open(
            process_key=start.process_key,
            path=_text(event["path"]),
            mode=cast(Literal["read", "write"], mode),
            library=_text(event["library"]),
            at=_moment(start, event),
            size_bytes=_maybe_integer(event.get("size")),
            mtime_ns=_maybe_integer(event.get("mtime_ns")),
            inode=_maybe_integer(event.get("inode"), limit=2**64 - 1),
            existed=bool(event.get("existed", False)),
            ctime_ns=_maybe_integer(event.get("ctime_ns")),
            device=_maybe_integer(event.get("device"), limit=2**64 - 1),
        )
    )


def _on_rename(start: Start, event: Mapping[str, Any], events: Events) -> None:
    source, target = _text(event["source"]), _text(event["target"])
    at = _moment(start, event)
    events.renames.append(Rename(source=source, target=target, at=at, process_key=start.process_key))


def _on_remove(start: Start, event: Mapping[str, Any], events: Events) -> None:
    path, at = _text(event["path"]), _moment(start, event)
    events.removes.append(Remove(path=path, at=at, process_key=start.process_key))


def _on_canary(start: Start, event: Mapping[str, Any], events: Events) -> None:
    events.canaries.add(start.process_key)


def _on_spawn(start: Start, event: Mapping[str, Any], events: Events) -> None:
    argv = _words(event["argv"])
    events.spawns.append(Spawn(process_key=start.process_key, executable=_text(event["executable"] or ""), argv=argv))


def _on_seed(start: Start, event: Mapping[str, Any], events: Events) -> None:
    function = _text(event["function"])
    events.seeds.append(
        Seed(
            process_key=start.process_key,
            ordinal=_integer(event["ordinal"]),
            function=function,
            argument=_text(event["argument"]),
            site=_text(event["site"]),
        )
    )
    if event.get("substituted"):
        events.substituted.append((start.process_key, function))


def _on_entropy(start: Start, event: Mapping[str, Any], events: Events) -> None:
    stream = _text(event["stream"])
    events.entropy.append(
        Entropy(
            process_key=start.process_key,
            stream=stream,
            ordinal=_integer(event["ordinal"]),
            value=_text(event["value"]),
            site=_text(event["site"]),
        )
    )
    if event.get("substituted"):
        events.substituted.append((start.process_key, stream))


def _on_generator(start: Start, event: Mapping[str, Any], events: Events) -> None:
    moment, generator = _named_moment(event["moment"]), _text(event["generator"])
    events.states.append(
        GeneratorState(process_key=start.process_key, moment=moment, generator=generator, sha256=_text(event["sha256"]))
    )


def _on_setting(start: Start, event: Mapping[str, Any], events: Events) -> None:
    moment, name = _named_moment(event["moment"]), _text(event["name"])
    events.settings.append(
        Setting(process_key=start.process_key, moment=moment, name=name, value=_text(event["value"]))
    )


def _on_metric(start: Start, event: Mapping[str, Any], events: Events) -> None:
    events.metrics.append(
        Metric(
            process_key=start.process_key,
            name=_text(event["name"]),
            step=_integer(event["step"]),
            value=float.fromhex(event["value"]),
            dtype=_text(event["dtype"]),
            at_seconds=_real(event["at"]),
        )
    )


def _on_mapped(start: Start, event: Mapping[str, Any], events: Events) -> None:
    events.mapped.update(_words(event["paths"]))


def _on_gap(start: Start, event: Mapping[str, Any], events: Events) -> None:
    topic, subject, reason = _text(event["topic"]), _text(event["subject"]), _text(event["reason"])
    events.gaps.append(Gap(topic=topic, subject=subject, reason=reason))


_HANDLERS: Final[dict[str, Callable[[Start, Mapping[str, Any], Events], None]]] = {
    "start": _on_start,
    "end": _on_end,
    "library": _on_library,
    "open": _on_open,
    "rename": _on_rename,
    "remove": _on_remove,
    "canary": _on_canary,
    "spawn": _on_spawn,
    "seed": _on_seed,
    "entropy": _on_entropy,
    "generator": _on_generator,
    "setting": _on_setting,
    "metric": _on_metric,
    "mapped": _on_mapped,
    "gap": _on_gap,
}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value if value.isascii() else storable(value)


def _words(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    return tuple(_text(word) for word in value)


def _integer(value: object, *, limit: int = _MAX_BIGINT) -> int:
    if type(value) is not int or not 0 <= value <= limit:
        raise TypeError("not a count")
    return value


def _maybe_integer(value: object, *, limit: int = _MAX_BIGINT) -> int | None:
    return None if value is None else _integer(value, limit=limit)


def _real(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TypeError("not a finite number")
    return float(value)


def _named_moment(value: Any) -> Moment:
    moment: Moment = value
    if value not in _MOMENTS:
        raise ValueError("not a moment")
    return moment


def _moment(start: Start, event: Mapping[str, Any]) -> float:
    """Return when an event happened, in seconds since the epoch; the log counts from the start of its process."""
    return start.started_at + _real(event.get("at", 0.0))
