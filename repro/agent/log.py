"""The event log: one append-only file per process, a JSON object a line (`schemas/event-1.json`).

Lines are written through a shared memory map, so that what was written survives `kill -9`; the file grows by
`posix_fallocate`, so that a full disk is an error here and not a SIGBUS later. No file descriptor is kept: a program
that closes descriptors it does not know would otherwise make us write into, or close, a file of its own. Where
mapping fails, each line is appended by itself. Nothing here raises.
"""

from __future__ import annotations

import mmap
import os
import sys
import time
from _thread import RLock

try:
    from _json import encode_basestring_ascii as _quote
except ImportError:
    from json.encoder import encode_basestring_ascii as _quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

FIRST_CHUNK_BYTES = 64 * 1024
LARGEST_CHUNK_BYTES = 4 * 1024 * 1024


def to_json(value: Any) -> str:
    """Return a value made of strings, numbers, lists and dictionaries as JSON, in ASCII.

    Surrogates, which stand for undecodable bytes in Python, are written as the text of their escape: JSON has no
    place for them. Anything unknown is written as its `str`.
    """
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return str(_quote(value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()))
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "[" + ",".join([to_json(item) for item in value]) + "]"
    if isinstance(value, dict):
        return "{" + ",".join([to_json(str(key)) + ":" + to_json(item) for key, item in value.items()]) + "}"
    return to_json(str(value))


class EventLog:
    """The log of this process.

    Args:
        folder: Where to create the file. If that fails, the log is dead: all it is told is dropped, training goes on.
    """

    def __init__(self, folder: str) -> None:
        self.started = time.monotonic()
        self._folder = folder
        self._map: Optional[mmap.mmap] = None
        self._map_fd = -1
        self._open()

    def emit(self, event: str, **fields: Any) -> None:
        """Append one event."""
        try:
            line = ['{"event":"', event, '"']
            for name, value in fields.items():
                line += ',"', name, '":', to_json(value)
            line.append("}\n")
            self._write("".join(line).encode())
        except Exception:
            self._lost += 1

    def metric(self, name: str, step: int, value: float, dtype: str, at: float) -> None:
        """Append a metric: `emit` made fast. Name and dtype are ASCII, escaped as in JSON; `at` is a monotonic time."""
        try:
            self._write(
                (
                    f'{{"event":"metric","name":"{name}","step":{step},"value":"{value.hex()}"'
                    f',"dtype":"{dtype}","at":{at - self.started:.6f}}}\n'
                ).encode()
            )
        except Exception:
            self._lost += 1

    def reopen(self) -> None:
        """Begin a log of its own in a forked child; the parent's is left as it is."""
        self.started = time.monotonic()
        self._retire()
        self._open()

    def close(self) -> None:
        """Cut the file to its true length. What comes later, from threads and finalisers, is still appended."""
        try:
            with self._lock:
                self._append_from_now_on()
        except Exception:
            self._lost += 1

    def _open(self) -> None:
        self._lock = RLock()
        self._busy = False
        self._waiting: list[bytes] = []
        self._lost = 0
        self._chunk = FIRST_CHUNK_BYTES // 2
        self._offset = self._position = self._limit = 0
        self._path = f"{self._folder}/{os.getpid()}-{time.time_ns()}.jsonl"
        try:
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            self._grow(0)
        except OSError:
            self._map = None

    def _write(self, line: bytes) -> None:
        with self._lock:
            start = self._position
            end = start + len(line)
            if end > self._limit or self._map is None:
                self._write_slowly(line)
                return
            self._position = end  # first, since a finaliser or a signal handler may write before the next line ends
            self._map[start:end] = line

    def _write_slowly(self, line: bytes) -> None:
        if self._busy:  # opening the log is itself seen by the audit hook; and finalisers run whenever they like
            self._waiting.append(line)
            return
        self._busy = True
        try:
            self._grow_or_append(line)
        finally:
            self._busy = False
        while self._waiting:
            self._write(self._waiting.pop(0))

    def _grow_or_append(self, line: bytes) -> None:
        if self._map is not None:
            try:
                self._grow(len(line))
            except (OSError, ValueError):
                self._append_from_now_on()
        if self._map is None:
            self._append(line)
            return
        start, self._position = self._position, self._position + len(line)
        self._map[start : self._position] = line

    def _grow(self, wanted_bytes: int) -> None:
        """Map a new window onto the file, from the page in which it ends.

        Raises:
            OSError: The file is gone, the disk is full, or the file system cannot do it.
        """
        length = self._offset + self._position
        self._chunk = min(self._chunk * 2, LARGEST_CHUNK_BYTES)
        offset = length - length % mmap.ALLOCATIONGRANULARITY
        size = length + max(self._chunk, wanted_bytes)
        fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.posix_fallocate(fd, 0, size)
            untracked: Any = {"trackfd": False} if sys.version_info >= (3, 13) else {}
            window = mmap.mmap(fd, size - offset, offset=offset, **untracked)
            window_fd = -1 if untracked else self._duplicate_of(fd)
        finally:
            os.close(fd)
        self._retire()
        self._map, self._map_fd = window, window_fd
        self._offset, self._position, self._limit = offset, length - offset, size - offset

    def _duplicate_of(self, fd: int) -> int:
        """Return the descriptor that `mmap` made for itself, as it does before Python 3.13; -1 if it is not found."""
        mine = os.fstat(fd)
        for name in os.listdir("/proc/self/fd"):
            try:
                if int(name) not in (fd, self._map_fd) and os.path.samestat(os.fstat(int(name)), mine):
                    return int(name)
            except OSError:
                continue
        return -1

    def _retire(self) -> None:
        """Give the mapping back, unless that would close a descriptor that somebody else has been given meanwhile."""
        window, self._map, self._limit = self._map, None, 0
        if window is None:
            return
        if sys.version_info < (3, 13):
            try:
                if not os.path.samestat(os.fstat(self._map_fd), os.stat(self._path)):
                    raise OSError
            except OSError:
                _ABANDONED.append(window)
                return
        window.close()

    def _append_from_now_on(self) -> None:
        length = self._offset + self._position
        if self._map is not None:
            self._retire()
            os.truncate(self._path, length)

    def _append(self, line: bytes) -> None:
        if self._lost:
            lost = f"the event log could not be written: {self._lost} events were lost"
            line += f'{{"event":"gap","topic":"agent","subject":"event log","reason":"{lost}"}}\n'.encode()
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            try:
                length = os.fstat(fd).st_size
                if os.write(fd, line) < len(line):
                    os.ftruncate(fd, length)
                    raise OSError
            finally:
                os.close(fd)
        except OSError:
            self._lost += 1
        else:
            self._lost = 0


_ABANDONED: list[mmap.mmap] = []
