"""What is told of files: which are opened, renamed, linked and removed, and what was in them before."""

# Paths are bytes here, which pathlib does not take.
# ruff: noqa: PTH116, PTH120, PTH123

from __future__ import annotations

import hashlib
import json
import os
import time
from json.encoder import encode_basestring_ascii as _quoted
from stat import S_ISDIR, S_ISLNK, S_ISREG
from typing import Final

from repro.errors import ReproError
from repro.evidence.canonical import decode_path, encode_path
from repro.record.kernel.journal import Journal
from repro.record.kernel.tasks import Task, Unresolved

MOST_PATHS: Final = 2_000_000
"""How many paths are remembered, and so told; a gap says when there are more."""
LARGEST_HASHED_BYTES: Final = 64 * 1024 * 1024
"""A call is held up for as long as hashing takes: some 50 ms at the most."""

_READ, _WRITE = 1, 2
_NO_REPLACE, _EXCHANGE = 1, 2
"""RENAME_NOREPLACE and RENAME_EXCHANGE of linux/fs.h."""
_NO_FILES = (b"/proc/", b"/sys/")
_DEVICES = b"/dev/"
_NAMELESS = b" (deleted)"
"""What the kernel puts behind the name of a file that was made with O_TMPFILE."""
_MEMORY = b"/dev/shm/"


class Opens:
    """What the run did to files.

    Args:
        journal: Where to tell.
        folder: The run's folder for event logs, absolute: nothing in it is told, but for the canary.
    """

    def __init__(self, journal: Journal, folder: bytes) -> None:
        self._journal = journal
        self._told: dict[bytes, int] = {}
        self._canary = folder + b"/canary"
        self._not_told = (*_NO_FILES, _DEVICES, folder + b"/")

    def remember_log(self, log: bytes) -> None:
        """Take for told what a watcher before this one has told."""
        try:
            with open(log, "rb") as file:
                for line in file:
                    self._remember(line)
        except OSError:
            return  # the recorder has read the log, and removed it

    def _remember(self, line: bytes) -> None:
        try:
            event = json.loads(line)
            if event["event"] == "open":
                path = decode_path(event["path"])
                self._told[path] = self._told.get(path, 0) | (_WRITE if event["mode"] == "write" else _READ)
            for name in ("source", "target") if event["event"] in ("rename", "link") else ("path",):
                if event["event"] in ("rename", "remove", "link"):
                    self.forget(decode_path(event[name]))
        except (ValueError, KeyError, ReproError):
            return

    def _is_no_file(self, path: bytes) -> bool:
        """Say whether a path leads to no file of the run's; data may be staged in the memory below `/dev/shm`."""
        return path.startswith(self._not_told) and not path.startswith(_MEMORY)

    def forget(self, path: bytes) -> None:
        """Tell of a path anew: there is another file now."""
        self._told.pop(path, None)

    def opened(self, task: Task, path: bytes, flags: int) -> None:
        """Tell of a file that is about to be opened with these flags of open(2)."""
        if self._is_no_file(path):
            if path == self._canary:
                self._journal.add({"event": "canary", "pid": task.pid, "at": time.time()})
            return
        access = flags & os.O_ACCMODE
        wanted = _WRITE if access != os.O_RDONLY or flags & os.O_TRUNC else _READ
        if access == os.O_RDWR and not flags & os.O_TRUNC:
            wanted |= _READ  # what was in it before is an input too
        told = self._told.get(path, 0)
        if wanted & ~told == 0:
            return
        state = self._state(task, path, follow=not flags & os.O_NOFOLLOW)
        if state is None:
            if flags & os.O_CREAT and os.access(os.path.dirname(path), os.W_OK | os.X_OK):
                self._tell(task, path, _WRITE, None, None)
            return
        if not S_ISREG(state.st_mode) or not self._allowed(path, wanted):
            return
        if flags & os.O_EXCL and flags & os.O_CREAT:
            return  # it is there already: the call will fail
        if wanted & _READ & ~told:
            self._tell(task, path, _READ, state, None)
        if wanted & _WRITE & ~told:
            keeps = not flags & os.O_TRUNC or bool(told & _READ)
            self._tell(task, path, _WRITE, state, self._digest(path, state) if keeps else None)

    def read_by_kernel(self, task: Task, path: bytes) -> None:
        """Tell of a file that the kernel itself is about to read for a process."""
        self.opened(task, path, os.O_RDONLY)

    def renamed(self, task: Task, source: bytes, target: bytes, flags: int = 0) -> None:
        """Tell of a rename, with these flags of renameat2(2), if there is something to rename and it may go there."""
        if self._is_no_file(source):
            return
        state = os.lstat(source)
        if not flags & _EXCHANGE and not _takes(target, state, replaced=not flags & _NO_REPLACE):
            return
        for path in (source, target):
            self._forget_below(path) if S_ISDIR(state.st_mode) else self.forget(path)
        self._change("rename", task, source=encode_path(source), target=encode_path(target))

    def linked(self, task: Task, source: bytes, target: bytes) -> None:
        """Tell of a second name, if there may be one; a source may have no name yet."""
        if not self._is_no_file(source) and not source.endswith(_NAMELESS) and not os.path.lexists(source):
            return
        if not self._is_no_file(target) and _takes(target, None, replaced=False):
            self.forget(target)
            self._change("link", task, source=encode_path(source), target=encode_path(target))

    def removed(self, task: Task, path: bytes) -> None:
        """Tell of a removal, if there is something to remove."""
        if self._is_no_file(path):
            return
        mode = os.lstat(path).st_mode
        if S_ISREG(mode) or S_ISLNK(mode):
            self.forget(path)
            self._change("remove", task, path=encode_path(path))

    def _change(self, event: str, task: Task, **paths: str) -> None:
        self._journal.add({"event": event, "pid": task.pid, **paths, "at": time.time()})

    def _forget_below(self, folder: bytes) -> None:
        start = folder + b"/"
        for path in [path for path in self._told if path.startswith(start)]:
            del self._told[path]

    def _state(self, task: Task, path: bytes, *, follow: bool) -> os.stat_result | None:
        """Return the state of what a path leads to, or `None` where there is nothing.

        Raises:
            Unresolved: The path leads elsewhere for the process than for us.
        """
        try:
            state = os.stat(path, follow_symlinks=follow)
        except FileNotFoundError:
            state = None
        if task.foreign:
            self._check_same(task, path, state, follow=follow)
        return state

    def _check_same(self, task: Task, path: bytes, state: os.stat_result | None, *, follow: bool) -> None:
        root = f"/proc/self/fd/{task.fd}/root".encode()
        try:
            inside = os.stat(root + path, follow_symlinks=follow)
        except FileNotFoundError:
            if state is None:
                path = os.path.dirname(path)  # where it would be made
                inside, state = os.stat(root + path), os.stat(path)
            else:
                inside = None
        same = inside and state and (inside.st_dev, inside.st_ino) == (state.st_dev, state.st_ino)
        if not same:
            raise Unresolved("it runs in a container, where the same paths lead to other files")

    def _allowed(self, path: bytes, wanted: int) -> bool:
        return os.access(path, (os.R_OK if wanted & _READ else 0) | (os.W_OK if wanted & _WRITE else 0))

    def _tell(self, task: Task, path: bytes, mode: int, state: os.stat_result | None, before: str | None) -> None:
        if len(self._told) >= MOST_PATHS:
            reason = f"more than {MOST_PATHS} files were opened; the rest is not listed"
            self._journal.gap("files", reason)
            return
        self._told[path] = self._told.get(path, 0) | mode
        # One of the first things that a training waits for, a hundred thousand times: an encoder takes 4 µs longer.
        line = f'{{"event":"open","pid":{task.pid},"path":{_quoted(encode_path(path))}'
        line += f',"mode":"{"write" if mode == _WRITE else "read"}","existed":{"false" if state is None else "true"}'
        if state is not None:
            line += f',"size":{state.st_size},"mtime_ns":{state.st_mtime_ns},"ctime_ns":{state.st_ctime_ns}'
            line += f',"inode":{state.st_ino},"device":{state.st_dev}'
        if before is not None:
            line += f',"before":"{before}"'
        self._journal.add_line(f'{line},"at":{time.time()!r}}}\n'.encode("ascii"))

    def _digest(self, path: bytes, state: os.stat_result) -> str | None:
        """Return the digest of a file that is about to be written for the first time, if it is small enough."""
        if state.st_size > LARGEST_HASHED_BYTES:
            return None
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None  # it may be written but not read
        with open(fd, "rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _takes(target: bytes, source: os.stat_result | None, *, replaced: bool) -> bool:
    """Say whether a file or folder can get this name; what fails for certain is no change.

    Args:
        target: The new name.
        source: The state of what is renamed.
        replaced: Whether what has this name makes room.
    """
    if not os.access(os.path.dirname(target), os.W_OK | os.X_OK):
        return False
    try:
        there = os.lstat(target)
    except FileNotFoundError:
        return True
    if not replaced or source is None or (there.st_dev, there.st_ino) == (source.st_dev, source.st_ino):
        return False  # where both are names of one file, nothing happens
    if not S_ISDIR(there.st_mode) or not S_ISDIR(source.st_mode):
        return S_ISDIR(there.st_mode) == S_ISDIR(source.st_mode)
    with os.scandir(target) as entries:
        return next(entries, None) is None
