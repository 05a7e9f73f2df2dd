"""The event log: one append-only file per process, a JSON object a line (`schemas/event-1.json`).

Lines are written through a shared memory map, so that what was written survives `kill -9`. Where mapping fails, each
line is appended by itself. Nothing here raises.
"""

from __future__ import annotations

import os
from _thread import RLock

from .mapped_file import MappedFile

try:
    from _json import encode_basestring_ascii as _quote
except ImportError:
    from json.encoder import encode_basestring_ascii as _quote

from . import clock
from .interrupts import pass_on

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


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


class EventLog(MappedFile):
    """The log of this process.

    Args:
        folder: Where to create the file. If that fails, the log is dead: all it is told is dropped, training goes on.
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.started = clock.monotonic()
        self._folder = folder
        self._open()

    def emit(self, event: str, **fields: Any) -> None:
        """Append one event."""
        try:
            line = ['{"event":"', event, '"']
            for name, value in fields.items():
                line += ',"', name, '":', to_json(value)
            line.append("}\n")
            self._write("".join(line).encode())
        except Exception as error:
            self._lost += 1
            pass_on(error)

    def metric(self, name: str, step: int, value: float, dtype: str, at: float) -> None:
        """Append a metric as a line of its own; `at` is a monotonic time. Name and dtype are escaped as in JSON."""
        at -= self.started
        self._append_line(
            f'{{"event":"metric","name":"{name}","step":{step},"value":"{value.hex()}","dtype":"{dtype}","at":{at:.6f}}}'
        )

    def series(self, number: int, name: str, dtype: str) -> None:
        """Tell the number that stands for a metric's name and type in the file of points; both as for `metric`."""
        self._append_line(f'{{"event":"series","number":{number},"name":"{name}","dtype":"{dtype}"}}')

    def lose(self) -> None:
        """Count an event that could not be written."""
        self._lost += 1

    def _append_line(self, line: str) -> None:
        try:
            self._write(line.encode() + b"\n")
        except Exception as error:
            self._lost += 1
            pass_on(error)

    def reopen(self) -> None:
        """Begin a log of its own in a forked child; the parent's is left as it is."""
        self.started = clock.monotonic()
        self._open()

    def close(self) -> None:
        """Cut the file to its true length. What comes later, from threads and finalisers, is still appended."""
        try:
            with self._lock:
                self._cut()
        except Exception as error:
            self._lost += 1
            pass_on(error)

    def _open(self) -> None:
        self._lock = RLock()
        self._busy = False
        self._waiting: list[bytes] = []
        self._lost = 0
        self._forget()
        self.stem = f"{self._folder}/{os.getpid()}-{clock.wall_ns()}"
        try:
            self._create(self.stem + ".jsonl")
        except OSError:
            self._retire()

    def _write(self, line: bytes) -> None:
        size = len(line)
        with self._lock:
            window, start = self._window, self._position
            if start + size > self._limit or window is None:
                self._write_slowly(line)
                return
            # first, and with no call between, since a finaliser or a signal handler may write before the line ends
            self._position = start + size
            window[start : start + size] = line

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
        if self._window is not None:
            try:
                self._grow(len(line))
            except (OSError, ValueError):
                self._cut()
        if self._window is None:
            self._append(line)
            return
        start, self._position = self._position, self._position + len(line)
        self._window[start : start + len(line)] = line

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
