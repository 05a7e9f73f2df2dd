"""Who did it: the process and the program behind a process id at a moment.

Python processes have the key that their agent claimed. Any other program is `KEY>PROGRAM`: the key of the nearest
Python process above it, and its own name; `>PROGRAM` where none is above it. Process ids are in neither, so that a
recording and its replay line up.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Final

from repro.record.eventlog import Events, Start
from repro.record.kernel.log import Executed, KernelEvents

NATIVE: Final = "native"
"""The library of an open that only the kernel saw in a Python process that the agent watches: code that is not Python
did it, and no hook knows which."""
_DEEPEST: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who opened a file."""

    process_key: str
    program: str
    """Its name; `native` in a Python process that has an agent, `python` before that woke up."""


class Actors:
    """The processes of a run, as both layers saw them."""

    def __init__(self, events: Events | None, kernel: KernelEvents | None) -> None:
        starts = events.starts if events is not None else []
        executions = kernel.executions if kernel is not None else []
        self._seen = kernel.processes if kernel is not None else {}
        self._lives: dict[int, list[tuple[float, Start | Executed]]] = {}
        for start in starts:
            self._lives.setdefault(start.pid, []).append((start.started_at, start))
        for execution in executions:
            self._lives.setdefault(execution.pid, []).append((execution.at, execution))
        for lives in self._lives.values():
            lives.sort(key=lambda life: life[0])

    def who(self, pid: int, at: float, depth: int = 0) -> Actor:
        """Return who a process was at a moment, in seconds since the epoch."""
        before, after = self._around(pid, at)
        if isinstance(before, Start):
            return Actor(process_key=before.process_key, program=NATIVE)
        if isinstance(after, Start):  # a Python whose agent has not woken up yet
            return Actor(process_key=after.process_key, program="python")
        if isinstance(before, Executed):
            name = before.path.rpartition("/")[2]
            return Actor(process_key=f"{self._above(before, depth)}>{name}", program=name)
        return self._copy(pid, depth)

    def _around(self, pid: int, at: float) -> tuple[Start | Executed | None, Start | Executed | None]:
        """Return what a process had last become, and what it became next."""
        lives = self._lives.get(pid, [])
        index = bisect_right(lives, at, key=lambda life: life[0])
        return (lives[index - 1][1] if index else None), (lives[index][1] if index < len(lives) else None)

    def _copy(self, pid: int, depth: int) -> Actor:
        """Return who a process is that was forked and became no other program: a subshell is its shell."""
        seen = self._seen.get(pid)
        if seen is None or not seen.parent or depth > _DEEPEST:
            return Actor(process_key=">" + (seen.name if seen else "unknown"), program=seen.name if seen else "unknown")
        parent = self.who(seen.parent, seen.at, depth + 1)
        if ">" in parent.process_key:
            return parent
        return Actor(process_key=f"{parent.process_key}>{seen.name}", program=seen.name)

    def _above(self, execution: Executed, depth: int) -> str:
        """Return the key of the nearest Python process above a program, or nothing."""
        lives = [life for at, life in self._lives[execution.pid] if at < execution.at]
        if lives and isinstance(lives[-1], Start):
            return lives[-1].process_key
        if not execution.parent or depth > _DEEPEST:
            return ""
        return self.who(execution.parent, execution.at, depth + 1).process_key.partition(">")[0]
