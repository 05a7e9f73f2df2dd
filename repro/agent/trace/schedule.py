"""Which steps are traced: dense at first, then the powers of two and every k-th; k is chosen once, told, and restored.

`REPRO_TRACE_EVERY` fixes k (1: every step; 0: no fingerprints at all), `REPRO_TRACE_BUDGET` is the share of the
training's time that the trace may take.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

    from repro.agent import Agent

DENSE_STEPS = 8
BUDGET = 0.01

_LARGEST_EVERY = 1 << 30


class Schedule:
    """The schedule of one process.

    Args:
        agent: Has the recorded schedule on a replay, and is told the one that is used.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.spent = 0.0
        """Seconds that tracing took so far in this process."""
        self._every: Optional[int] = None
        self._marks: list[tuple[float, float]] = []
        self._budget = BUDGET
        self.enabled = True
        """Whether any step is traced."""

    def begin(self) -> None:
        """Take the schedule that is given, if one is: to be called before the first step is looked at."""
        self._budget = self._number(os.environ.get("REPRO_TRACE_BUDGET"), BUDGET)
        given = os.environ.get("REPRO_TRACE_EVERY") or self._agent.settings.get("trace.every")
        every = self._number(given, -1.0)
        if every < 0:
            return
        self._every = int(every)
        self.enabled = self._every > 0
        self._tell(self._every)

    def traces(self, step: int) -> bool:
        """Return whether a step is traced."""
        if step < DENSE_STEPS or not step & (step - 1):
            return self.enabled
        return bool(self._every) and step % (self._every or 1) == 0

    def step_begins(self, step: int) -> None:
        """Choose k at step 8 of the first anchor, from the time from step 1 on; told of steps 1 to 8."""
        if self._every is not None:
            return
        self._marks.append((time.perf_counter(), self.spent))
        if step < DENSE_STEPS:
            return
        spans = [(b[0] - a[0], b[1] - a[1]) for a, b in zip(self._marks, self._marks[1:])]
        if not spans:
            spans = [(0.0, 0.0)]
        cost = sorted(cost for _, cost in spans)[len(spans) // 2]
        rest = sorted(seconds - cost for seconds, cost in spans)[len(spans) // 2]
        self._every = smallest_every(cost, rest, self._budget)
        self._marks.clear()
        self._tell(self._every)
        self._agent.emit("setting", moment="first-step", name="trace.budget", value=repr(self._budget))

    def _tell(self, every: int) -> None:
        self._agent.emit("setting", moment="first-step", name="trace.every", value=str(every))

    def _number(self, text: Optional[str], default: float) -> float:
        if not text:
            return default
        try:
            number = float(text)
            if 0 <= number < _LARGEST_EVERY:
                return number
        except ValueError:
            pass
        self._agent.gap("trace", "schedule", f"{text[:40]!r} is no schedule; it is chosen instead")
        return default


def smallest_every(cost: float, step: float, budget: float) -> int:
    """Return the smallest power of two, at least 8, at which a cost every k-th step is within the budget.

    Args:
        cost: Seconds that a traced step adds.
        step: Seconds that a step takes without it.
        budget: The share of the time of steps that may be added.
    """
    every = DENSE_STEPS
    while every < _LARGEST_EVERY and cost > budget * every * step:
        every *= 2
    return every
