"""Which inputs were not those of the recorded run."""

from __future__ import annotations

from repro.audit.digests import comparable
from repro.audit.rebase import replay_sentences
from repro.evidence.model import Record


def changed(original: Record, replay: Record, told: tuple[str, ...]) -> tuple[str, ...]:
    """Return what is known to have changed: told by the caller, seen in the records, or sealed with the replay."""
    return tuple(sorted({*told, *_inputs(original, replay)})) or replay_sentences(replay, "changed_data")


def _inputs(original: Record, replay: Record) -> set[str]:
    before, after = (
        {row.path: row.digest for row in record.data_files if row.role == "input" and row.category == "data"}
        for record in (original, replay)
    )
    return {p for p in before.keys() & after if comparable(before[p], after[p]) and before[p] != after[p]}
