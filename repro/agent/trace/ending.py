"""End each process after its first steps, where a replay is to run only those (`REPRO_STEPS=N`).

What counts are the steps of the first optimizer that steps, or backward passes where none does. A process ends after
its N-th step as by `os._exit(0)`: nothing of the user's code runs any more, which could go on, write or fail. Before
that the ranks of the process group wait for each other, so that none loses its peer in a collective; its workers are
told to end, what is printed is flushed, and the log is closed as at any end.
"""

from __future__ import annotations

import os
import sys
import time

from .. import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

    from repro.agent import Agent

    from .batches import Batches

VARIABLE = "REPRO_STEPS"
STOPPED = "replay.stopped_after"
"""The setting that says of a process that it was ended, and after how many steps."""

_LONGEST_WAIT_SECONDS = 60.0
_PAUSE_SECONDS = 0.01
_CHILD_SECONDS = 5.0


class Ending:
    """The end of one process after its first steps.

    Args:
        agent: Closes the log.
        batches: Knows the loaders whose workers are to end.
    """

    def __init__(self, agent: Agent, batches: Batches) -> None:
        self._agent = agent
        self._batches = batches
        self._steps = _number(os.environ.get(VARIABLE))
        if self._steps is not None:
            agent.on_moment(self._at_moment)
            agent.on_fork(self._restart)
        self._restart()

    @property
    def wanted(self) -> bool:
        """Whether processes are to be ended at all."""
        return self._steps is not None

    def _restart(self) -> None:
        """Begin anew: in a forked child."""
        self._rank: Optional[tuple[int, int]] = None
        """This process among the ranks on this machine, once it has stepped as one of several."""

    def after_step(self, steps: int) -> None:
        """Be told that a step has ended, the steps-th; end the process if that was the last one wanted."""
        if self._steps is None:
            return
        if self._rank is None:
            self._rank = self._agent.guard("agent", "ranks", _rank_here)
        if steps >= self._steps:
            self._end()

    def _end(self) -> None:
        agent = self._agent
        agent.emit("setting", moment="end", name=STOPPED, value=str(self._steps))
        try:
            agent.guard("agent", "ranks", self._wait_for_ranks)
            agent.guard("agent", "workers", self._end_workers)
            agent.guard("agent", "children", _end_children)
            for stream in (sys.stdout, sys.stderr):
                agent.guard("agent", "output", stream.flush)
            agent.end()
        finally:
            os._exit(0)

    def _at_moment(self, moment: str) -> None:
        if moment == "end" and self._rank is not None:
            self._arrive(self._rank[0])  # also a rank that ends by itself: the others need not wait for it

    def _arrive(self, rank: int) -> str:
        folder = os.path.join(os.environ.get("REPRO_EVENTS", ""), "stopped")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, str(rank)), "w", encoding="ascii"):
            return folder

    def _wait_for_ranks(self) -> None:
        if self._rank is None:
            return
        rank, ranks = self._rank
        folder = self._arrive(rank)
        patience = clock.monotonic() + _LONGEST_WAIT_SECONDS
        while len(os.listdir(folder)) < ranks and clock.monotonic() < patience:
            time.sleep(_PAUSE_SECONDS)

    def _end_workers(self) -> None:
        for iterator in self._batches.iterators():
            end = getattr(iterator, "_shutdown_workers", None)
            if end is not None:
                self._agent.guard("agent", "workers", end)


def _rank_here() -> Optional[tuple[int, int]]:
    """Return this rank of the process group, and how many of them are on this machine; `None` where it is alone."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    ranks = _number(os.environ.get("LOCAL_WORLD_SIZE")) or int(distributed.get_world_size())
    return (int(distributed.get_rank()), ranks) if ranks > 1 else None


def _end_children() -> None:
    """End the children that `multiprocessing` has made: those that would be ended by a normal exit, and the others."""
    module: Any = sys.modules.get("multiprocessing")
    children = [] if module is None else module.active_children()
    for child in children:
        if not child.daemon:
            child.join(_CHILD_SECONDS)
        if child.is_alive():
            child.terminate()
    for child in children:
        child.join(_CHILD_SECONDS)


def _number(text: Optional[str]) -> Optional[int]:
    return int(text) if text and text.isdigit() and int(text) > 0 else None
