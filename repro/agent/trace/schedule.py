"""Which steps are traced: dense at first, then the powers of two and every k-th; k is chosen once, told, and restored.

`REPRO_TRACE_EVERY` fixes k (1: every step; 0: no fingerprints at all), `REPRO_TRACE_BUDGET` is the share of the
training's time that the trace may take.
"""

from __future__ import annotations

import os

from .. import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

    from repro.agent import Agent

DENSE_STEPS = 8
BUDGET = 0.005
"""Of the time of steps, as the first of them measure it; what reading displaces in the caches comes on top."""

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
        self._device_marks: list[list[tuple[Any, Any]]] = []
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
        self._marks.append((clock.precise(), self.spent))
        self._device_marks.append([])
        if step < DENSE_STEPS:
            return
        spans = [(b[0] - a[0], b[1] - a[1]) for a, b in zip(self._marks, self._marks[1:])]
        cost, rest = _medians(spans)
        device_cost, device_rest = _medians(_device_spans(self._device_marks))
        self._every = smallest_every(max(cost, device_cost), max(rest, device_rest), self._budget)
        self._marks.clear()
        self._device_marks.clear()
        self._tell(self._every)
        self._agent.emit("setting", moment="first-step", name="trace.budget", value=repr(self._budget))

    @property
    def measures(self) -> bool:
        """Whether the time that tracing takes is still to be measured, for k to be chosen by."""
        return self._every is None and bool(self._device_marks)

    def spent_on_device(self, start: Any, end: Any) -> None:
        """Add a span of tracing on a device, between two events in its stream that may lie ahead."""
        self._device_marks[-1].append((start, end))

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


def _medians(spans: list[tuple[float, float]]) -> tuple[float, float]:
    """Return the median cost of tracing, and the median of what a step takes without it.

    Args:
        spans: The seconds of a step, and those of them that tracing took.
    """
    if not spans:
        return 0.0, 0.0
    costs = sorted(cost for _, cost in spans)
    rests = sorted(seconds - cost for seconds, cost in spans)
    return costs[len(spans) // 2], rests[len(spans) // 2]


def _device_spans(marks: list[list[tuple[Any, Any]]]) -> list[tuple[float, float]]:
    """Return the seconds of each step that a device has done, and those of tracing in it; nothing is waited for."""
    spans = []
    for mine, following in zip(marks, marks[1:]):
        if mine and following and following[0][0].query():
            seconds = mine[0][0].elapsed_time(following[0][0]) / 1000
            spans.append((seconds, sum(start.elapsed_time(end) for start, end in mine) / 1000))
    return spans


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
