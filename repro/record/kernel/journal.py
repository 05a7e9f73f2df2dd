"""The writer of `kernel.log`: events wait in shared memory, so that none is lost with the process that saw it.

The memory is shared between the watcher and its holder. It begins with the buffer that the kernel writes notifications
to; then come a header and the lines that are not in the file yet.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import time
from typing import Any, Final

from repro.record.kernel.notify import BUFFER_BYTES

FLUSH_SECONDS: Final = 0.05
_HEADER = struct.Struct("<IIII")  # bytes waiting, restarts, unresolved, lines that could not be written
_WAITING_BYTES = 256 * 1024
_HEADER_AT = BUFFER_BYTES
_LINES_AT = _HEADER_AT + 64
_encode = json.JSONEncoder(separators=(",", ":")).encode


def shared_memory() -> mmap.mmap:
    """Return memory that a process shares with those that it forks."""
    return mmap.mmap(-1, _LINES_AT + _WAITING_BYTES)


class Journal:
    """Appends to the log, at the latest 50 ms after an event.

    Args:
        shared: From `shared_memory`.
        fd: The log, opened for appending.
    """

    def __init__(self, shared: mmap.mmap, fd: int) -> None:
        self.shared = shared
        self._fd = fd
        self._flushed_at = 0.0
        self.waiting_bytes, self.restarts, self.unresolved, self._lost = _HEADER.unpack_from(shared, _HEADER_AT)
        self._told: set[tuple[str, str]] = set()

    def add(self, event: dict[str, Any]) -> None:
        """Append an event."""
        self.add_line(_encode(event).encode("ascii") + b"\n")

    def add_line(self, line: bytes) -> None:
        """Append an event that is JSON already, ended by a line feed."""
        if len(line) > _WAITING_BYTES - self.waiting_bytes:
            self.flush()
        if len(line) > _WAITING_BYTES:
            self._write(line)
            return
        start = _LINES_AT + self.waiting_bytes
        self.shared[start : start + len(line)] = line
        self.waiting_bytes += len(line)
        self._keep()

    def gap(self, subject: str, reason: str) -> None:
        """Say once what was not seen."""
        if (subject, reason) not in self._told:
            self._told.add((subject, reason))
            self.add({"event": "gap", "subject": subject, "reason": reason})

    def not_resolved(self) -> None:
        """Count a path that could not be told."""
        self.unresolved += 1
        self._keep()

    def restarted(self) -> None:
        """Count a watcher that had to be started again."""
        self.restarts += 1
        self._keep()

    def flush_if_due(self, now: float) -> None:
        """Write what waits, if it has waited for long enough."""
        if now - self._flushed_at >= FLUSH_SECONDS:
            self.flush()
            self._flushed_at = now

    def flush(self) -> None:
        """Write what waits."""
        if self.waiting_bytes:
            self._write(self.shared[_LINES_AT : _LINES_AT + self.waiting_bytes])
            self.waiting_bytes = 0
            self._keep()

    def end(self) -> None:
        """Write the last line."""
        if self._lost:
            reason = f"{self._lost} times the log could not be written to: what it should have told is missing"
            self.gap("kernel.log", reason)
        self.add({"event": "end", "at": time.time(), "restarts": self.restarts, "unresolved": self.unresolved})
        self.flush()

    def _keep(self) -> None:
        header = (self.waiting_bytes, self.restarts, self.unresolved, self._lost)
        _HEADER.pack_into(self.shared, _HEADER_AT, *header)

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError:  # the disk is full: the training goes on
            self._lost += 1
