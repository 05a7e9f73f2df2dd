"""What part of a command a replay runs: the first steps of its training, and a step that is looked at more closely."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from repro.errors import UsageError
from repro.evidence.model import Fact

STEPS_VARIABLE: Final = "REPRO_STEPS"
OPERATIONS_VARIABLE: Final = "REPRO_TRACE_OPERATIONS"
MOST_STEPS: Final = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """What is wanted of a training."""

    steps: int | None = None
    """Each process that trains is ended after this many steps; `None`: it runs to its end."""
    operations: int | None = None
    """The step of which each operation is told; counts from 0."""

    def variables(self) -> dict[str, str]:
        """Return what the agent reads in its environment."""
        found = {STEPS_VARIABLE: self.steps, OPERATIONS_VARIABLE: self.operations}
        return {name: str(number) for name, number in found.items() if number is not None}

    def facts(self) -> tuple[Fact, ...]:
        """Return what the record of the replay says of it."""
        found = {"steps": self.steps, "operations": self.operations}
        return tuple(
            Fact(topic="replay", name=name, value=str(number), source="declared")
            for name, number in found.items()
            if number is not None
        )


WHOLE: Final = Excerpt()


def excerpt(steps: int | None, operations: int | None) -> Excerpt:
    """Check what a user asks for.

    Raises:
        UsageError: It is no number of steps, or the step to look at is not among the first ones.
    """
    if steps is not None and not 0 < steps <= MOST_STEPS:
        raise UsageError(f"{steps} is no number of steps", hint="give 1 or more: --steps 8")
    if operations is not None and not 0 <= operations <= MOST_STEPS:
        raise UsageError(f"{operations} is no step", hint="steps count from 0: --operations 0")
    if steps is not None and operations is not None and operations >= steps:
        raise UsageError(
            f"step {operations} is not among the first {steps}, which count from 0",
            hint=f"give --steps {operations + 1} or more",
        )
    return Excerpt(steps=steps, operations=operations)
