"""The points of this process's metrics: records of 32 bytes in a file beside its event log.

A metric is told at every step, so it is no line of JSON: a fifth of the time and a third of the space. The format is in
docs/adr/0013. The file is made with the first point. Where it cannot be made or grown, points become lines of the
event log. Nothing here raises.
"""

from __future__ import annotations

from _thread import RLock

from .interrupts import pass_on
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
            micros = int((at - self._log.started) * 1e6)
            room = self._room
            start = next(room[1])  # in one go: a thread, a signal handler or a finaliser may tell a point, too
            if start < room[2]:
                try:
                    self._pack_into(room[0], start, step, value, micros, number)
                    return
                except (TypeError, ValueError):  # one of them has given the window back meanwhile
                    pass
            if self._make_room(room):
                self.metric(name, step, value, dtype, at)
            else:
                self._log.metric(name, step, value, dtype, at)
        except Exception as error:
            self._log.lose()
            pass_on(error)

    def reopen(self) -> None:
        """Begin anew: a forked child has a file of its own, and leaves the parent's as it is."""
        self._forget()
        self._lock = RLock()
        self._numbers: dict[tuple[str, str], int] = {}
        self._count = 0
        self._made = self._busy = False
        self._room: tuple[Any, Any, int] = _NOWHERE

    def close(self) -> None:
        """Cut the file to its true length; what comes later are lines of the event log."""
        try:
            with self._lock:
                self._made = True
                self._abandon()
        except Exception as error:
            self._log.lose()
            pass_on(error)

    def _begin(self, name: str, dtype: str) -> int:
        """Number a series; told before its first point, so that no point stands for nothing."""
        with self._lock:
            number = self._numbers.get((name, dtype))
            if number is None:
                self._count = number = self._count + 1  # before it is told, since a signal handler may begin another
                self._log.series(number, name, dtype)
                self._numbers[name, dtype] = number
            return number

    def _make_room(self, full: tuple[Any, Any, int]) -> bool:
        """Map the next window, unless somebody else has done it; return whether there is one.

        A point that is told meanwhile by the same thread, in a finaliser or a signal handler, becomes a line.
        """
        with self._lock:
            if self._busy:
                return False
            if self._room is full and not (self._made and full is _NOWHERE):
                self._busy = True
                try:
                    self._map_more()
                except Exception as error:
                    self._abandon()
                    pass_on(error)
                finally:
                    self._busy = False
            return self._room is not _NOWHERE

    def _map_more(self) -> None:
        from itertools import count

        if self._made:
            self._position = self._limit
            self._grow(RECORD_BYTES)
        else:
            self._start()
        self._room = (self._window, count(self._position, RECORD_BYTES), self._limit)

    def _start(self) -> None:
        from _struct import Struct

        self._made = True
        self._pack_into = Struct(RECORD).pack_into
        self._create(self._log.stem + ".points")
        if self._window is not None:
            self._window[: len(MAGIC)] = MAGIC
            self._position = RECORD_BYTES

    def _abandon(self) -> None:
        room, self._room = self._room, _NOWHERE
        if room is not _NOWHERE:
            self._position = min(next(room[1]), room[2])
        try:
            self._cut()
        except OSError:
            self._retire()


_NOWHERE: tuple[Any, Any, int] = (None, iter(int, 1), 0)
"""The window, its free places, and where it ends: none at all, however often one is asked for."""
