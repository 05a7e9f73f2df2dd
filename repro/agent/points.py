"""The points of this process's metrics: records of 32 bytes in a file beside its event log.

A metric is told at every step, so it is no line of JSON: a fifth of the time and a third of the space. The format is in
docs/adr/0013. The file is made with the first point. Where it cannot be made or grown, points become lines of the
event log. Nothing here raises.
"""

from __future__ import annotations

from _thread import RLock

from .mapped_file import MappedFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .log import EventLog

MAGIC = b"repro points 1\n"
RECORD = "<qdqQ"
"""Step; value; microseconds since the process started; number of the series, which is written last: 0 is no record."""
RECORD_BYTES = 32


class PointLog(MappedFile):
    """The points of one process.

    Args:
        log: The event log, which is told what each number of a series stands for.
    """

    def __init__(self, log: EventLog) -> None:
        super().__init__()
        self._log = log
        self._pack_into: Any = None
        self.reopen()

    def metric(self, name: str, step: int, value: float, dtype: str, at: float) -> None:
        """Append a point. Name and dtype are ASCII, escaped as in JSON; `at` is a monotonic time."""
        try:
            number = self._numbers.get((name, dtype)) or self._begin(name, dtype)
            with self._lock:
                if self._position >= self._limit and not self._make_room():
                    self._log.metric(name, step, value, dtype, at)
                    return
                window, start = self._window, self._position
                self._position = start + 32  # first, since a finaliser or a signal handler may tell a point, too
                self._pack_into(window, start, step, value, int((at - self._log.started) * 1e6), number)
        except Exception:
            self._log.lose()

    def reopen(self) -> None:
        """Begin anew: a forked child has a file of its own, and leaves the parent's as it is."""
        self._forget()
        self._lock = RLock()
        self._numbers: dict[tuple[str, str], int] = {}
        self._made = self._busy = False

    def close(self) -> None:
        """Cut the file to its true length; what comes later are lines of the event log."""
        try:
            with self._lock:
                self._made = True
                self._cut()
                self._position = 0
        except Exception:
            self._log.lose()

    def _begin(self, name: str, dtype: str) -> int:
        """Number a series; told before its first point, so that no point stands for nothing."""
        with self._lock:
            number = self._numbers.get((name, dtype))
            if number is None:
                number = len(self._numbers) + 1
                self._log.series(number, name, dtype)
                self._numbers[name, dtype] = number
            return number

    def _make_room(self) -> bool:
        """Map the next window; a point that is told meanwhile, by a finaliser or a signal handler, becomes a line."""
        if self._busy or (self._made and self._window is None):
            return False
        self._busy = True
        try:
            if self._made:
                self._grow(RECORD_BYTES)
            else:
                self._start()
        except Exception:
            self._abandon()
        finally:
            self._busy = False
        return self._window is not None

    def _start(self) -> None:
        from _struct import Struct

        self._made = True
        self._pack_into = Struct(RECORD).pack_into
        self._create(self._log.stem + ".points")
        if self._window is not None:
            self._window[: len(MAGIC)] = MAGIC
            self._position = RECORD_BYTES

    def _abandon(self) -> None:
        try:
            self._cut()
        except OSError:
            self._retire()
        self._position = 0  # which is at the limit: each later point asks for room, and gets none
