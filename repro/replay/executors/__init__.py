"""Executors: places to run a plan. One file each; its name is what `--executor` takes. Adding one touches one file.

An executor is a module with three functions. What runs is the plan's; where it runs is the executor's:

- `conditions(plan, machine)` says, before anything is built, what it finds missing or different here;
- `prepare(plan, workspace, store, machine, progress)` makes the place ready and returns a `Site`;
- `unavailable()` says why the executor cannot be used on this machine at all, or returns `None`.

The recorder starts the command through `Site.start`, so an executor for containers or a scheduler passes its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from repro.evidence.model import Fact
from repro.evidence.store import Store
from repro.replay.conditions import Condition
from repro.replay.machine import Machine
from repro.replay.plan import Plan
from repro.replay.relocation import Move
from repro.replay.workspace import Workspace

if TYPE_CHECKING:
    from repro.record.supervise import Launcher


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A place that is ready to run a plan."""

    start: Launcher
    """How a process is started there."""
    path: tuple[str, ...] = ()
    """Directories that go to the front of PATH."""
    python_path: tuple[str, ...] = ()
    """Directories that go to the front of PYTHONPATH."""
    environment: Mapping[str, str | None] = field(default_factory=dict)
    """Variables to set besides the recorded ones; `None` takes one away."""
    moves: tuple[Move, ...] = ()
    """Recorded prefixes of the environment, and where they lie here."""
    isolation: tuple[str, ...] = ()
    """What was not isolated, in sentences for the report."""
    facts: tuple[Fact, ...] = ()
    """For the record of the replay: topic `replay`, and what is known of its environment."""
    close: Callable[[], None] = lambda: None
    """Gives back what was held."""


class Executor(Protocol):
    """What the replayer calls of an executor."""

    def unavailable(self) -> str | None:
        """Return why this executor cannot be used on this machine, in a sentence that names what is needed."""
        ...

    def conditions(self, plan: Plan, machine: Machine) -> tuple[Condition, ...]:
        """Return what this executor finds missing or different; an `impossible` one ends the replay at once."""
        ...

    def prepare(
        self, plan: Plan, workspace: Workspace, store: Store, machine: Machine, progress: Callable[[str], None]
    ) -> Site:
        """Make the place ready.

        Raises:
            ExecutionError: The place cannot be made ready.
        """
        ...
