"""The fingerprints of two runs side by side: one pair for each anchor of each process, step by step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from repro.audit.models import Standing, standings
from repro.evidence.model import Fingerprint, Record, TracedTensor

Key = tuple[str, str]
"""Process key and anchor."""
FieldKey = tuple[str, int]
"""Field, and how often it was told before in the same step: 0 but for what no schema foresees."""

STRUCTURE: Final = "tensors"
"""The field that differs where the traced tensors have other shapes or types."""
BUFFER: Final = "buffer"
SKETCH: Final = "sketch"
RANDOM: Final = "rng."
_CAUSAL: Final = (
    *(STRUCTURE, "order", "batch", "rng.torch", "rng.cuda", "rng.numpy", "rng.python", "weight", BUFFER),
    *("gradient", "hyperparameter", "parameter", "state", SKETCH),
)


@dataclass(frozen=True, slots=True)
class TensorList:
    """The tensors that fingerprints are of, from a step on."""

    since: int
    tensors: tuple[TracedTensor, ...]
    structure: tuple[tuple[str, str], ...]
    """Their shapes and types: what they are without their names."""


_NO_TENSORS: Final = TensorList(0, (), ())
_NO_MODELS: Final = Standing(since=0)


class Side:
    """What one run traced of one anchor."""

    __slots__ = ("lists", "models", "steps")

    def __init__(self) -> None:
        self.steps: dict[int, dict[FieldKey, Fingerprint]] = {}
        self.lists: list[TensorList] = []
        self.models: tuple[Standing, ...] = ()

    def standing(self, step: int) -> TensorList:
        """Return the list of tensors that stands at a step; an empty one where none was told."""
        return next((one for one in reversed(self.lists) if one.since <= step), _NO_TENSORS)

    def models_at(self, step: int) -> Standing:
        """Return the models that stand at a step; none where none was told."""
        return next((one for one in reversed(self.models) if one.since <= step), _NO_MODELS)

    def tensor_count(self) -> int:
        """Return how many tensors fingerprints are of, at most at one time."""
        trained = max((len(one.tensors) for one in self.lists), default=0)
        return trained + max((len(one.besides) for one in self.models), default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Both sides of one anchor of one process."""

    key: Key
    left: Side
    right: Side
    shared: tuple[int, ...]
    """Steps that both sides traced, in order."""
    differing: Mapping[int, tuple[FieldKey, ...]]
    """Of these, the steps with a field that differs, in order, and those fields in causal order."""

    def words(self, step: int, key: FieldKey) -> tuple[str, str] | None:
        """Return what both sides say of a field of a step; `None` where either says nothing."""
        ours, theirs = self.left.steps[step].get(key), self.right.steps[step].get(key)
        return (ours.words, theirs.words) if ours and theirs else None


def pairs(left: Record, right: Record) -> Iterator[Pair]:
    """Yield a pair for each anchor that either run traced, sorted by process and anchor."""
    ours, theirs = _sides(left), _sides(right)
    for key in sorted({*ours, *theirs}):
        mine, other = ours.get(key) or Side(), theirs.get(key) or Side()
        shared = tuple(sorted(mine.steps.keys() & other.steps.keys()))
        found = ((step, _differing(step, mine, other)) for step in shared)
        differing = {step: fields for step, fields in found if fields}
        yield Pair(key=key, left=mine, right=other, shared=shared, differing=differing)


def causal(key: FieldKey) -> tuple[int, str, int]:
    """Return what sorts the fields of a step by cause; a field that no schema foresees comes last."""
    field = "rng.cuda" if key[0].startswith("rng.cuda.") else key[0]
    return _CAUSAL.index(field) if field in _CAUSAL else len(_CAUSAL), *key


def _sides(record: Record) -> dict[Key, Side]:
    found: dict[Key, Side] = {}
    told: dict[tuple[Key, int], list[Fingerprint]] = {}
    for row in record.fingerprints:
        told.setdefault(((row.process_key, row.anchor), row.step), []).append(row)
    for (key, step), rows in told.items():
        found.setdefault(key, Side()).steps[step] = _by_field(rows)
    lists: dict[tuple[Key, int], list[TracedTensor]] = {}
    for tensor in record.traced_tensors:
        lists.setdefault(((tensor.process_key, tensor.anchor), tensor.step), []).append(tensor)
    for (key, since), tensors in sorted(lists.items(), key=lambda item: item[0]):
        if key in found:
            ordered = tuple(sorted(tensors, key=lambda tensor: tensor.ordinal))
            shapes = tuple((tensor.shape, tensor.dtype) for tensor in ordered)
            found[key].lists.append(TensorList(since, ordered, shapes))
    for key, standing in standings(record).items():
        if key in found:
            found[key].models = standing
    return found


def _by_field(rows: list[Fingerprint]) -> dict[FieldKey, Fingerprint]:
    found: dict[FieldKey, Fingerprint] = {}
    for row in sorted(rows, key=lambda row: row.place):
        again = 0
        while (row.field, again) in found:
            again += 1
        found[row.field, again] = row
    return found


def _differing(step: int, left: Side, right: Side) -> tuple[FieldKey, ...]:
    ours, theirs = left.steps[step], right.steps[step]
    keys = [key for key, row in ours.items() if key in theirs and row.words != theirs[key].words and key[0] != SKETCH]
    if left.standing(step).structure != right.standing(step).structure:
        keys.append((STRUCTURE, 0))
    return tuple(sorted(keys, key=causal))
