"""How one field of one step differs between two traces, and in which tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from repro.audit.trace.pairs import BUFFER, STRUCTURE, FieldKey, Pair
from repro.evidence.model import Fingerprint, ModelTensor, TracedTensor

WORD: Final = 16
"""Hexadecimal digits of a fingerprint."""
NAMED: Final = 8
"""Tensors, steps and fields that are named; the others are counted."""
_OF_TENSORS: Final = frozenset({"weight", BUFFER, "gradient", "parameter", "state"})


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferingTensor:
    """One tensor whose fingerprint differs."""

    name: str
    shape: str
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldDifference:
    """One field of one step that is not the same on both sides."""

    field: str
    """As in `Fingerprint.field`; `tensors` where the tensors themselves are others."""
    place: int | None
    """As in `Fingerprint.place`, the lower of both sides; `None` for `tensors`."""
    differing: int
    """Fingerprints that differ; tensors, for `tensors`."""
    of: int
    """Fingerprints that there are, on the side that has more."""
    tensors: tuple[DifferingTensor, ...]
    """The first that differ, at most `NAMED`; empty where the field is of no tensor."""


def field_difference(pair: Pair, step: int, key: FieldKey) -> FieldDifference:
    """Return how a field differs at a step at which it does."""
    if key[0] == STRUCTURE:
        return _structure_difference(pair, step)
    ours, theirs = pair.left.steps[step][key], pair.right.steps[step][key]
    places, of = _places(_words(ours), _words(theirs))
    named = [_tensor(pair, step, key[0], place) for place in places[:NAMED]] if key[0] in _OF_TENSORS else []
    return FieldDifference(
        field=key[0],
        place=min(ours.place, theirs.place),
        differing=len(places),
        of=of,
        tensors=tuple(named),
    )


def weights_besides(pair: Pair, step: int) -> bool:
    """Say whether `buffer` differs at a step in a parameter, frozen or not trained, not in buffers alone."""
    told = pair.words(step, (BUFFER, 0))
    places = _places(*map(_split, told))[0] if told else []
    lists = (pair.left.models_at(step).besides, pair.right.models_at(step).besides)
    return any(rows[place].kind != "buffer" for rows in lists for place in places if place < len(rows))


def _structure_difference(pair: Pair, step: int) -> FieldDifference:
    places, of = _places(pair.left.standing(step).structure, pair.right.standing(step).structure)
    named = tuple(_tensor(pair, step, STRUCTURE, place) for place in places[:NAMED])
    return FieldDifference(field=STRUCTURE, place=None, differing=len(places), of=of, tensors=named)


def _places(ours: Sequence[object], theirs: Sequence[object]) -> tuple[list[int], int]:
    """Return the places at which two sequences differ, and how many places there are."""
    of = max(len(ours), len(theirs))
    return [place for place in range(of) if ours[place : place + 1] != theirs[place : place + 1]], of


def _words(row: Fingerprint) -> list[str]:
    return _split(row.words)


def _split(words: str) -> list[str]:
    return [words[start : start + WORD] for start in range(0, len(words), WORD)]


def _tensor(pair: Pair, step: int, field: str, place: int) -> DifferingTensor:
    """Describe the tensor at a place of a field's list; both descriptions, where the sides have two."""
    lists: list[Sequence[TracedTensor | ModelTensor]] = [
        side.models_at(step).besides if field == BUFFER else side.standing(step).tensors
        for side in (pair.left, pair.right)
    ]
    rows = [tensors[place] for tensors in lists if place < len(tensors)]

    def both(values: list[str]) -> str:
        return " / ".join(dict.fromkeys(values))

    return DifferingTensor(
        name=both([row.name for row in rows]) or f"tensor {place}",
        shape=both([row.shape for row in rows]),
        dtype=both([row.dtype for row in rows]),
    )
