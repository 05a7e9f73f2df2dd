"""Which steps of a training are fingerprinted: what the user chose, told to the agent, and kept for replays.

`docs/adr/0010-the-training-trace.md` has the schedule. What was not chosen is not told: the agent then chooses by what
the first steps took, within its own budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from repro.errors import UsageError
from repro.evidence.model import Fact, Record

EVERY_VARIABLE: Final = "REPRO_TRACE_EVERY"
BUDGET_VARIABLE: Final = "REPRO_TRACE_BUDGET"
MAX_EVERY: Final = 2**31 - 1
OFF: Final = "off"
"""What the record says where the user wanted no fingerprints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracing:
    """What was chosen."""

    every: int | None = None
    """Trace each step whose number is a multiple of this; 0: none. `None`: the agent chooses."""
    budget: float | None = None
    """The share of the training's time that the trace may take; `None` for the agent's own, 0.005."""

    def over(self, other: Tracing) -> Tracing:
        """Return this choice, and the other's where this one leaves it open."""
        return Tracing(
            every=other.every if self.every is None else self.every,
            budget=other.budget if self.budget is None else self.budget,
        )

    def variables(self) -> dict[str, str]:
        """Return what the agent reads in its environment."""
        every = {} if self.every is None else {EVERY_VARIABLE: str(self.every)}
        return every if self.budget is None else {**every, BUDGET_VARIABLE: repr(self.budget)}

    def facts(self) -> tuple[Fact, ...]:
        """Return what the record says of the choice."""
        found = {}
        if self.every is not None:
            found["every"] = str(self.every) if self.every else OFF
        if self.budget is not None:
            found["budget"] = repr(self.budget)
        return tuple(Fact(topic="trace", name=name, value=value, source="declared") for name, value in found.items())


NOT_CHOSEN: Final = Tracing()


def chosen(every: Any, percent: Any) -> Tracing:
    """Check what a user asks for.

    Args:
        every: A number of steps; `None` where he says nothing.
        percent: Of the training's time; `None` where he says nothing.

    Raises:
        UsageError: It is no such number.
    """
    if every is not None and (type(every) is not int or not 0 <= every <= MAX_EVERY):
        raise UsageError(f"trace-every is {every!r}", hint="it is a number of steps: 1 for each, 0 for none")
    if percent is not None and (type(percent) not in (int, float) or not 0 < percent <= 100):
        raise UsageError(f"trace-budget is {percent!r}", hint="it is a percentage of the training's time, such as 1")
    return Tracing(every=every, budget=None if percent is None else percent / 100)


def recorded(record: Record) -> Tracing:
    """Return what was chosen for a run, so that its replay traces the same steps."""
    every, budget = record.fact("trace", "every"), record.fact("trace", "budget")
    try:
        return Tracing(
            every=None if every is None else 0 if every == OFF else int(every),
            budget=None if budget is None else float(budget),
        )
    except ValueError:  # whoever wrote it was not us: the replay says what it traced itself
        return NOT_CHOSEN
