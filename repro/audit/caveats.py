"""What leaves a verdict's word as it is and yet limits what it says: one sentence each."""

from __future__ import annotations

from typing import Final

from repro.audit import tails
from repro.audit.lineage import caveat
from repro.audit.selfcheck import FAILED, outcome_of
from repro.evidence.model import Record

_REPEATS_NOT: Final = "Its self-check had failed: this run does not repeat on the machine it was recorded on."


def caveats(original: Record, replay: Record, *, matched: bool) -> tuple[str, ...]:
    """Return what limits a verdict, one sentence each: what may have gone unseen, and a self-check that had failed.

    Args:
        original: The run.
        replay: Its replay.
        matched: Whether nothing speaks against a match.
    """
    found = (
        "" if matched or outcome_of(original) != FAILED else _REPEATS_NOT,
        caveat("original", original),
        caveat("replay", replay),
        *tails.sentences(original, replay),
    )
    return tuple(filter(None, found))


def lineage_caveats(sentences: tuple[str, ...]) -> tuple[str, ...]:
    """Return those caveats that are about files which may have gone unseen."""
    return tuple(each for each in sentences if each != _REPEATS_NOT)
