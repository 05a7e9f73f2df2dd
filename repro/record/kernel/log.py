"""Read what the kernel layer wrote: `kernel.log`, one JSON object a line, as `schemas/kernel-event-1.json` says.

It is written by whichever layer watched, and may end in half a line if the machine went down: a reader drops that.
Anything else that cannot be read becomes a gap, never an exception.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, cast

from repro.evidence.canonical import storable
from repro.evidence.model import Gap
from repro.record import kernel

SCHEMA: Final = kernel.SCHEMA
NAME: Final = kernel.NAME
_MAX_BIGINT: Final = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A file was opened; the state is the file's just before, and `None` throughout where it did not exist."""

    pid: int
    path: str
    """Absolute, made text by `encode_path`; symbolic links are kept, except before a `..`."""
    mode: Literal["read", "write"]
    existed: bool
    size_bytes: int | None
    mtime_ns: int | None
    ctime_ns: int | None
    inode: int | None
    device: int | None
    before: str | None
    """Of a first write: `sha256:…` of what was in the file until then, where it was hashed."""
    at: float
    """Seconds since the epoch, as all times here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Renamed:
    """A file or folder was asked to get another name."""

    pid: int
    source: str
    target: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """A file was asked to be removed."""

    pid: int
    path: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Linked:
    """A file was asked to get a second name."""

    pid: int
    source: str
    target: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """A process became another program."""

    pid: int
    parent: int
    path: str
    argv: tuple[str, ...]
    """As it was passed; not redacted."""
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A process at its first watched call."""

    pid: int
    parent: int
    """0 where it was gone before it could be looked at."""
    name: str
    """Of its program then, at most 15 bytes."""
    at: float


@dataclass(slots=True, kw_only=True)
class KernelEvents:
    """All that the kernel layer saw; each list in the order of time."""

    layer: str
    """`seccomp` or `strace`."""
    no_new_privs: bool = False
    """Whether setuid programs ran without their privileges."""
    opens: list[Opened] = field(default_factory=list)
    renames: list[Renamed] = field(default_factory=list)
    removes: list[Removed] = field(default_factory=list)
    links: list[Linked] = field(default_factory=list)
    executions: list[Executed] = field(default_factory=list)
    processes: dict[int, Seen] = field(default_factory=dict)
    """By pid; where a pid was used twice, the first process."""
    canaries: set[int] = field(default_factory=set)
    """Processes whose agent opened the canary, and was seen to."""
    io_uring: set[int] = field(default_factory=set)
    """Processes with a ring that could not be looked at, through which files can be opened unseen."""
    gaps: list[Gap] = field(default_factory=list)
    complete: bool = False
    """Whether the layer was awake until the last watched process had ended."""
    restarts: int = 0
    """How often the watcher had to be started again."""
    unresolved: int = 0
    """Paths that could not be told."""


def read(events: Path) -> KernelEvents | None:
    """Return what the kernel layer saw, or `None` where none watched.

    Args:
        events: The run's folder for event logs.
    """
    try:
        data = (events / NAME).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = f"the kernel layer's log could not be read: {error.strerror}"
        return KernelEvents(layer="", gaps=[Gap(topic="lineage", subject=NAME, reason=reason)])
    found = KernelEvents(layer="")
    broken = sum(not _take(line, found) for line in data[: data.rfind(b"\n") + 1].split(b"\n")[:-1])
    if broken:
        reason = f"{broken} lines of the kernel layer's log could not be read: what they told of is missing"
        found.gaps.append(Gap(topic="lineage", subject=NAME, reason=reason))
    return found


def _take(line: bytes, found: KernelEvents) -> bool:
    """Add one line; return whether it could be read."""
    try:
        event = json.loads(line)
        _HANDLERS[event["event"]](event, found)
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return False
    return True


def _on_layer(event: Mapping[str, Any], found: KernelEvents) -> None:
    if event["schema"] != SCHEMA:
        raise ValueError("not this version")
    found.layer = _text(event["layer"])
    found.no_new_privs = bool(event["no_new_privs"])


def _on_process(event: Mapping[str, Any], found: KernelEvents) -> None:
    pid = _integer(event["pid"])
    seen = Seen(pid=pid, parent=_integer(event["parent"]), name=_text(event["name"]), at=_real(event["at"]))
    found.processes.setdefault(pid, seen)


def _on_execute(event: Mapping[str, Any], found: KernelEvents) -> None:
    found.executions.append(
        Executed(
            pid=_integer(event["pid"]),
            parent=_integer(event["parent"]),
            path=_text(event["path"]),
            argv=tuple(_text(word) for word in event["argv"]),
            at=_real(event["at"]),
        )
    )


def _on_open(event: Mapping[str, Any], found: KernelEvents) -> None:
    if event["mode"] not in ("read", "write"):
        raise ValueError("neither read nor write")
    found.opens.append(
        Opened(
            pid=_integer(event["pid"]),
            path=_text(event["path"]),
            mode=cast(Literal["read", "write"], event["mode"]),
            existed=bool(event["existed"]),
            size_bytes=_maybe_integer(event.get("size")),
            mtime_ns=_maybe_integer(event.get("mtime_ns")),
            ctime_ns=_maybe_integer(event.get("ctime_ns")),
            inode=_maybe_integer(event.get("inode"), limit=2**64 - 1),
            device=_maybe_integer(event.get("device"), limit=2**64 - 1),
            before=None if event.get("before") is None else _text(event["before"]),
            at=_real(event["at"]),
        )
    )


def _on_rename(event: Mapping[str, Any], found: KernelEvents) -> None:
    source, target = _text(event["source"]), _text(event["target"])
    found.renames.append(Renamed(pid=_integer(event["pid"]), source=source, target=target, at=_real(event["at"])))


def _on_remove(event: Mapping[str, Any], found: KernelEvents) -> None:
    found.removes.append(Removed(pid=_integer(event["pid"]), path=_text(event["path"]), at=_real(event["at"])))


def _on_link(event: Mapping[str, Any], found: KernelEvents) -> None:
    source, target = _text(event["source"]), _text(event["target"])
    found.links.append(Linked(pid=_integer(event["pid"]), source=source, target=target, at=_real(event["at"])))


def _on_canary(event: Mapping[str, Any], found: KernelEvents) -> None:
    found.canaries.add(_integer(event["pid"]))


def _on_io_uring(event: Mapping[str, Any], found: KernelEvents) -> None:
    found.io_uring.add(_integer(event["pid"]))


def _on_gap(event: Mapping[str, Any], found: KernelEvents) -> None:
    found.gaps.append(Gap(topic="lineage", subject=_text(event["subject"]), reason=_text(event["reason"])))


def _on_end(event: Mapping[str, Any], found: KernelEvents) -> None:
    found.restarts, found.unresolved = _integer(event["restarts"]), _integer(event["unresolved"])
    found.complete = True


_HANDLERS: Final[dict[str, Callable[[Mapping[str, Any], KernelEvents], None]]] = {
    "layer": _on_layer,
    "process": _on_process,
    "execute": _on_execute,
    "open": _on_open,
    "rename": _on_rename,
    "remove": _on_remove,
    "link": _on_link,
    "canary": _on_canary,
    "io_uring": _on_io_uring,
    "gap": _on_gap,
    "end": _on_end,
}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not text")
    return storable(value)


def _integer(value: object, limit: int = _MAX_BIGINT) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > limit:
        raise ValueError("not an integer that the manifest holds")
    return value


def _maybe_integer(value: object, limit: int = _MAX_BIGINT) -> int | None:
    return None if value is None else _integer(value, limit)


def _real(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("not a finite number")
    return float(value)
