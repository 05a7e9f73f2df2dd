"""Where a run stands in the whole training, in words."""

from __future__ import annotations

from typing import Final

from repro.audit.wording import listed
from repro.evidence.goingon import goes_on_at, sources
from repro.evidence.model import Continuation, Record

_BY: Final = {"file": "the same bytes", "content": "the same tensors"}


def phrases(record: Record) -> tuple[str, ...]:
    """Say of each anchor that goes on from another run from where it does; alike processes together.

    Such as `optimizer.0 in main goes on from b.pt of run 0123456789ab (the same bytes), after step 19 of the whole
    training: step S is step S + 20 of the whole training`.
    """
    links, before = sources(record), goes_on_at(record)
    paths = {(row.process_key, row.ordinal): row.path for row in record.checkpoints}
    found: dict[tuple[str, str, str, str, int], list[str]] = {}
    for (process_key, anchor), link in sorted(links.items()):
        path = paths.get((link.process_key, link.checkpoint)) or "what it read from memory"
        key = anchor, path, link.from_run_id, link.matched_by, before[process_key, anchor]
        found.setdefault(key, []).append(process_key)
    return tuple(
        f"{anchor} in {listed(processes, 4)} goes on from {path} of run {run_id} ({_BY[by]}), after {steps:,} steps: "
        f"step S is step S + {steps:,} of the whole training"
        for (anchor, path, run_id, by, steps), processes in found.items()
    )


def other_links(record: Record) -> tuple[Continuation, ...]:
    """Return the links that no anchor goes on from: what was read for something else, such as data or a teacher."""
    used = {_written(link) for link in sources(record).values()}
    return tuple(link for link in record.continuations if _written(link) not in used)


def _written(link: Continuation) -> tuple[str, str, int]:
    return link.from_run_id, link.from_process_key, link.from_checkpoint
