"""Where the loaders of a process stand: what a training that goes on from here has to skip."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class Cursor:
    """One epoch of one loader.

    Args:
        number: Of the loader, from 0, in the order of their first use.
        epoch: From 0.
        begun: Orders epochs by their beginning.
        states: What the generators stood at just before: names and states.
    """

    __slots__ = ("asked", "begun", "ended", "epoch", "handed_out", "head", "number", "states")

    def __init__(self, number: int, epoch: int, begun: int, states: tuple[tuple[str, bytes], ...] = ()) -> None:
        self.number = number
        self.epoch = epoch
        self.begun = begun
        self.states = states
        self.head = f"{number} {epoch}"
        """What the order of samples is told with."""
        self.asked = 0
        """Batches whose indices were drawn: with workers it runs ahead."""
        self.handed_out = 0
        self.ended = False
        """Whether the last batch was handed out, and asked for one more."""


def first_open(cursors: Iterable[Cursor]) -> Cursor | None:
    """Return the epoch that began first of those that go on: setting out from it, the others begin again too."""
    return min((each for each in cursors if not each.ended), key=lambda each: each.begun, default=None)
