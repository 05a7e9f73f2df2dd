"""What `repro record --join` does besides recording: it claims a place, and afterwards says or does what follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from repro.errors import ReproError

if TYPE_CHECKING:
    from repro.evidence.store import Store
    from repro.record.join import Asked, Place
    from repro.record.recorder import Recorded, Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """What became of the join once a part was sealed."""

    join_id: str
    node: int
    nodes: int
    missing: tuple[int, ...]
    """Nodes that have not sealed their part yet."""
    merged: str | None
    """The run that all parts are together, if this node made it."""
    trouble: str
    """Why that could not be made; empty where it could, or was not this node's affair."""

    @property
    def lines(self) -> tuple[str, ...]:
        """What to tell the user."""
        head = f"this is node {self.node} of {self.nodes} in the join {self.join_id}"
        if self.merged:
            return (f"{head}, the last one: all parts are merged to run {self.merged}",)
        if self.trouble:
            return (f"{head}; the parts could not be merged: {self.trouble}", f"try: repro merge {self.join_id}")
        if self.missing:
            names = ", ".join(map(str, self.missing))
            return (f"{head}; not sealed yet: {names}. The last node to finish merges, or: repro merge {self.join_id}",)
        return (f"{head}; another one merges",)


def record_part(
    request: Request, asked: Asked, store: Store, record: Callable[[Request], Recorded]
) -> tuple[Recorded, Joined]:
    """Record a command as one node's part of a run, and merge the parts if this is the last.

    Raises:
        UsageError: The join makes no sense, or the place in it is taken; the command was not started.
        and whatever `record` raises.
    """
    from repro.record import join

    place = join.enter(asked, request.argv, request.environment, store)
    try:
        recorded = record(replace(request, facts=(*request.facts, *place.member.facts())))
    except BaseException:
        place.leave()
        raise
    return recorded, _finish(place, recorded, store)


def _finish(place: Place, recorded: Recorded, store: Store) -> Joined:
    """Mark the part as sealed, and merge if all are. What fails is said, and fails no training."""
    missing, merged, trouble = (), None, ""  # type: tuple[int, ...], str | None, str
    try:
        missing = place.sealed(recorded.run_id)
        if not missing and place.is_merger():
            merged = _merge(place.member.join_id, store)
    except ReproError as error:
        trouble = error.message
    return Joined(
        join_id=place.member.join_id,
        node=place.member.node,
        nodes=place.member.nodes,
        missing=missing,
        merged=merged,
        trouble=trouble,
    )


def _merge(join_id: str, store: Store) -> str:
    from repro.evidence.trust import trusted_keys
    from repro.record.nodes import merge

    return merge([join_id], store, trusted_keys(store)).directory.run_id
