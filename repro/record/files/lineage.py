"""What happened to each file of a run: the events of both layers, followed in the order of time. Nothing is looked at.

An input is a file that was read before the run itself wrote it, under the name that it had before the run. An output is
a file that the run wrote, under the name that it has at the end. A layer tells of what was asked for, just before it
happens: a rename that failed is known by the file being read, or renamed again, under its old name afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from repro.record.eventlog import Events, Open, Remove, Rename
from repro.record.files.actors import Actor, Actors
from repro.record.kernel.log import KernelEvents, Linked, Opened, Removed, Renamed

TICK_NS: Final = 20_000_000
"""A file's times may lag behind by a tick of the kernel's clock, up to 10 ms: two changes within one look the same."""

Action = Literal["renamed", "linked", "removed"]
AnyEvent = Open | Rename | Remove | Opened | Renamed | Removed | Linked


@dataclass(slots=True, kw_only=True)
class Touched:
    """One file that was read or written, as it stood just before it was first opened. It is filled in as both tell."""

    path: str
    """Absolute, made text by `encode_path`."""
    process_key: str
    library: str
    at: float
    """Seconds since the epoch."""
    existed: bool
    size_bytes: int | None = None
    mtime_ns: int | None = None
    ctime_ns: int | None = None
    inode: int | None = None
    device: int | None = None
    before: str | None = None
    """Digest of an input's content, taken before the run first wrote to it."""
    by_agent: bool = False
    by_kernel: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A file that was renamed, linked or removed."""

    action: Action
    path: str
    target: str | None
    process_key: str


@dataclass(slots=True, kw_only=True)
class History:
    """What the run did to files."""

    inputs: dict[str, Touched] = field(default_factory=dict)
    """By the path that each had before the run."""
    outputs: dict[str, Touched] = field(default_factory=dict)
    """By the path that each has at the end, if it is still there."""
    changes: list[Change] = field(default_factory=list)
    moved: dict[str, str] = field(default_factory=dict)
    """What the run gave another name without having made it: new path to the path before the run."""

    def names(self) -> dict[str, list[str]]:
        """Return, by the path before the run, the names that files and folders have besides, or now."""
        found: dict[str, list[str]] = {}
        for path, origin in self.moved.items():
            found.setdefault(origin, []).append(path)
        return found


def follow(
    events: Events | None,
    kernel: KernelEvents | None,
    actors: Actors,
    stand_in: Callable[[Open | Opened], str | None] = lambda event: event.path,
) -> History:
    """Return what the run did to files.

    Args:
        events: What the agent saw.
        kernel: What the kernel layer saw.
        actors: Who is who among the processes.
        stand_in: Returns the path to tell of instead, such as the source of byte code, or `None` to leave an open out.
    """
    following = _Following(actors, stand_in)
    for event in sorted(_all(events, kernel), key=lambda event: event.at):
        following.take(event)
    return following.history


def _all(events: Events | None, kernel: KernelEvents | None) -> Iterator[AnyEvent]:
    """Yield what the agent saw, then what the kernel saw: with equal times, the agent was asked first."""
    told: set[tuple[str, ...]] = set()
    watched: set[str] = set()
    if kernel is not None:
        told = {(each.source, each.target) for each in kernel.renames} | {(each.path,) for each in kernel.removes}
        if events is not None and not kernel.unresolved:
            watched = {start.process_key for start in events.starts if start.pid in kernel.canaries}
    if events is not None:
        yield from events.opens
        # The kernel layer knows better: it leaves out what cannot succeed.
        for renamed in events.renames:
            if renamed.process_key not in watched and (renamed.source, renamed.target) not in told:
                yield renamed
        for removed in events.removes:
            if removed.process_key not in watched and (removed.path,) not in told:
                yield removed
    if kernel is not None:
        yield from kernel.opens
        yield from kernel.renames
        yield from kernel.removes
        yield from kernel.links


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """A rename that was asked for, and that may turn out to have failed."""

    target: str
    row: Change
    carried: bool
    """Whether it gave an output its new name."""
    replaced: Touched | None
    """The output that it put out of the way."""


class _Following:
    def __init__(self, actors: Actors, stand_in: Callable[[Open | Opened], str | None]) -> None:
        self.history = History()
        self._actors = actors
        self._stand_in = stand_in
        self._folders: set[str] = set()
        self._removed: set[str] = set()
        self._gone: dict[str, _Attempt] = {}
        self._latest: dict[int | str, AnyEvent] = {}
        """By pid, or by process key where the agent tells."""

    def take(self, event: AnyEvent) -> None:
        match event:
            case Open() | Opened():
                self._open(event)
            case Rename() | Renamed():
                self._rename(event)
            case Remove() | Removed():
                self._change("removed", event.path, None, event)
                self._removed.add(event.path)
                self.history.moved.pop(event.path, None)
            case Linked():
                self._change("linked", event.source, event.target, event)
                self._gone.pop(event.target, None)
                self._link(event.source, event.target)
        self._latest[_asker(event)] = event

    def _rename(self, event: Rename | Renamed) -> None:
        """Follow a rename; what is renamed twice, and was not made again between, was not renamed the first time."""
        source, target, outputs = event.source, event.target, self.history.outputs
        if source == target:
            return
        earlier = self._gone.get(source)
        if earlier is not None and source not in outputs:
            # `mv` first asks for a rename that replaces nothing. What is no output may be made again unseen: a link.
            if earlier.target == target and (earlier.carried or self._is_repeated(event)):
                return
            if earlier.carried:
                self._undo(source, earlier)
        self._gone.pop(target, None)
        carried, replaced = source in outputs, outputs.get(target)
        row = self._change("renamed", source, target, event)
        self._gone[source] = _Attempt(target=target, row=row, carried=carried, replaced=replaced)
        self._move(source, target)

    def _is_repeated(self, event: Rename | Renamed) -> bool:
        """Say whether a process asks for the same again, and for nothing else between."""
        last = self._latest.get(_asker(event))
        return isinstance(last, Rename | Renamed) and (last.source, last.target) == (event.source, event.target)

    def _change(self, action: Action, path: str, target: str | None, event: AnyEvent) -> Change:
        key = event.process_key if isinstance(event, Rename | Remove | Open) else self._who(event).process_key
        row = Change(action=action, path=path, target=target, process_key=key)
        self.history.changes.append(row)
        return row

    def _who(self, event: Opened | Renamed | Removed | Linked) -> Actor:
        return self._actors.who(event.pid, event.at)

    def _open(self, event: Open | Opened) -> None:
        path = self._stand_in(event)
        if path is None:
            return
        if event.mode == "write":
            self._write(event, path)
        else:
            self._read(event, path, told=path == event.path)

    def _write(self, event: Open | Opened, path: str) -> None:
        self._gone.pop(path, None)
        self._removed.discard(path)
        read = self.history.inputs.get(self._origin(path))
        if read is not None and read.inode is None:
            _learn_from_write(read, event)
        if read is not None and read.before is None and isinstance(event, Opened) and _same(event, read):
            read.before = event.before
        self._add(self.history.outputs, path, event, told=True)
        self._note_folders(path)

    def _read(self, event: Open | Opened, path: str, *, told: bool) -> None:
        if isinstance(event, Opened) and not event.existed:
            return
        self._undo_failed(path)
        outputs = self.history.outputs
        if path in outputs and path not in self._removed:
            if path in self.history.inputs:
                self._add(self.history.inputs, path, event, told=told)
            return
        outputs.pop(path, None)  # somebody else has put it there since the run removed its own
        origin = self._origin(path)
        if origin not in outputs or origin != path:
            self._add(self.history.inputs, origin, event, told=told)

    def _add(self, files: dict[str, Touched], path: str, event: Open | Opened, *, told: bool) -> None:
        known = files.get(path)
        if known is None:
            files[path] = self._touched(path, event, told=told)
        elif isinstance(event, Opened):
            known.by_kernel = True
        else:
            if not known.by_agent and known.process_key == event.process_key:
                known.library = event.library
            known.by_agent = True

    def _touched(self, path: str, event: Open | Opened, *, told: bool) -> Touched:
        """Return a file as it was first seen; where the event is another's that it stands for, its state is unknown."""
        if isinstance(event, Open):
            actor = Actor(process_key=event.process_key, program=event.library)
        else:
            actor = self._who(event)
        new = Touched(
            path=path,
            process_key=actor.process_key,
            library=actor.program,
            at=event.at,
            existed=event.existed or event.mode == "read",
            by_agent=isinstance(event, Open),
            by_kernel=isinstance(event, Opened),
        )
        if told:
            _take_state(new, event)
        return new

    def _move(self, source: str, target: str) -> None:
        """Follow a file, or all files of a folder, to the new name."""
        outputs, moved = self.history.outputs, self.history.moved
        if source in outputs:
            moved.pop(target, None)
            outputs[target] = replace(outputs.pop(source), path=target)
        else:
            outputs.pop(target, None)
            origin = self._origin(source)
            moved.pop(source, None)
            moved.pop(target, None)
            if origin != target:
                moved[target] = origin
        self._removed.discard(target)
        self._note_folders(target)
        if source in self._folders:
            self._move_below(source + "/", target + "/")

    def _move_below(self, source: str, target: str) -> None:
        outputs, moved = self.history.outputs, self.history.moved
        for path in [path for path in outputs if path.startswith(source)]:
            new = target + path[len(source) :]
            outputs[new] = replace(outputs.pop(path), path=new)
            self._note_folders(new)
        for path in [path for path in moved if path.startswith(source)]:
            new = target + path[len(source) :]
            moved[new] = moved.pop(path)
            self._note_folders(new)

    def _link(self, source: str, target: str) -> None:
        if source in self.history.outputs:
            self.history.outputs[target] = replace(self.history.outputs[source], path=target)
            self._removed.discard(target)
        else:
            self.history.moved[target] = self._origin(source)
        self._note_folders(target)

    def _undo_failed(self, path: str) -> None:
        """Take back a rename whose source is read, though nobody has written it since: it failed, as across devices."""
        for name in (path, *_above(path)) if self._gone else ():
            earlier = self._gone.pop(name, None)
            if earlier is not None and path not in self.history.outputs:
                self._undo(name, earlier)

    def _undo(self, source: str, failed: _Attempt) -> None:
        """Take back a rename that did not happen, with its row."""
        self._move(failed.target, source)
        if failed.replaced is not None:
            self.history.outputs[failed.target] = failed.replaced
        changes = self.history.changes
        for index in range(len(changes) - 1, -1, -1):
            if changes[index] is failed.row:
                del changes[index]
                return

    def _origin(self, path: str) -> str:
        """Return the path that a file had before the run renamed or linked it, or a folder above it."""
        moved = self.history.moved
        for name in (path, *_above(path)) if moved else ():
            if name in moved:
                return moved[name] + path[len(name) :]
        return path

    def _note_folders(self, path: str) -> None:
        for folder in _above(path):
            if folder in self._folders:
                return
            self._folders.add(folder)


def _asker(event: AnyEvent) -> int | str:
    return event.process_key if isinstance(event, Open | Rename | Remove) else event.pid


def _above(path: str) -> Iterable[str]:
    """Yield the folders above a path, the nearest first."""
    while (end := path.rfind("/")) > 0:
        path = path[:end]
        yield path


def _take_state(file: Touched, event: Open | Opened) -> None:
    file.size_bytes = event.size_bytes
    file.mtime_ns = event.mtime_ns
    file.ctime_ns = event.ctime_ns
    file.inode = event.inode
    file.device = event.device


def _learn_from_write(read: Touched, event: Open | Opened) -> None:
    """Learn a file's state when it was read from that before it was written, if nothing had changed it between."""
    if event.inode is not None and max(event.mtime_ns or 0, event.ctime_ns or 0) + TICK_NS < read.at * 1e9:
        _take_state(read, event)


def _same(event: Opened, read: Touched) -> bool:
    """Say whether a file is, at a later open, what it was when it was first read."""
    then = (read.size_bytes, read.mtime_ns, read.ctime_ns, read.inode)
    now = (event.size_bytes, event.mtime_ns, event.ctime_ns, event.inode)
    return all(a == b for a, b in zip(then, now, strict=True) if a is not None)
