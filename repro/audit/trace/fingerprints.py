"""Where two training traces part: the first step, process, field and tensors whose fingerprints differ.

`docs/adr/0010-the-training-trace.md` defines fields, steps and fingerprints. Steps that both sides traced are compared
field by field, in causal order. Two fields are no evidence of a difference by themselves:

- A state of a random generator (`rng.…`) tells where the generator stands, and a run need not draw from it. It counts
  as where the runs part only if something else differs at the same or a later traced step, and if by then the generator
  still stands elsewhere and moves. Otherwise it is kept apart, as unused.
- A `sketch` measures how far two models are apart. It sums up what `parameter` says bit by bit.

Tensors are matched by their place in the list. Another shape or type there is a difference of its own, the field
`tensors`, and comes before all others of its step; another name alone is none, for names bear on no bit.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from repro.audit.trace.causes import Cause, Circumstances, cause
from repro.audit.trace.fields import NAMED, WORD, FieldDifference, field_difference, weights_besides
from repro.audit.trace.pairs import BUFFER, RANDOM, SKETCH, STRUCTURE, FieldKey, Pair, causal, pairs
from repro.audit.trace.sketches import Drift, drifts
from repro.evidence.model import Record

_OF_WEIGHTS: Final = frozenset({STRUCTURE, "weight", "parameter"})


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstDifference:
    """Where the traces of an anchor part."""

    process_key: str
    rank: int | None
    anchor: str
    step: int
    what: FieldDifference
    """The first field in causal order that differs at the step."""
    also: tuple[FieldDifference, ...]
    """The other fields that differ at the step, in causal order."""
    cause: Cause
    last_equal: int | None
    """The last step before it that both sides traced: it is wholly equal."""
    adjacent: bool
    """Whether no step lies between: the runs part here, and are not only seen to have parted."""
    absorbed: bool
    """Whether the weights are equal all the same, at this and every later step that both sides traced."""
    effect_step: int | None
    """Where a random state differs first: the first step at which something else does. `None` otherwise."""
    effect_field: str | None
    """What differs there first."""
    at_seconds: float
    """When, since the process started, on the side that was earlier."""
    shows_in: tuple[str, ...] = ()
    """Processes in which something differs at this step of this anchor, sorted."""
    shared: bool = False
    """Whether the very field differs at this step in another process too."""
    traced_in: tuple[str, ...] = ()
    """Processes in which both sides traced this step of this anchor, sorted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnusedState:
    """A random generator that stood elsewhere, to no effect that the trace shows."""

    field: str
    first_step: int
    steps: int
    """Steps at which it differs, of those that both sides traced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorComparison:
    """The trace of one anchor of one process, on both sides."""

    process_key: str
    rank: int | None
    anchor: str
    left_steps: int
    right_steps: int
    compared_steps: int
    """Steps that both sides traced."""
    equal_steps: int
    """Of these, the steps at which nothing differs but unused random states."""
    missing_left: tuple[int, ...]
    """The first steps that only the right side traced, at most `NAMED`."""
    missing_right: tuple[int, ...]
    missing_steps: int
    missing_fields: tuple[str, ...]
    """Fields that one side alone told of a step that both traced, such as `state at step 3`; at most `NAMED`."""
    same_schedule: bool
    """Whether both sides were to trace the same steps, so that what is missing counts."""
    fingerprints: int
    """Fingerprints that were compared."""
    tensors: int
    """Tensors that they are of."""
    first: FirstDifference | None
    unused: tuple[UnusedState, ...]
    drift: tuple[Drift, ...]
    """How far the weights were apart: at the first step at which their sketches differ, and at the last one."""

    @property
    def short(self) -> bool:
        """Whether something is missing that the schedule promised."""
        return self.same_schedule and bool(self.missing_steps or self.missing_fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceComparison:
    """The traces of two runs."""

    anchors: tuple[AnchorComparison, ...]
    """Of every process that either side traced, sorted by process and anchor."""
    left_traced: bool
    """Whether the left run has any fingerprint."""
    right_traced: bool
    first: FirstDifference | None
    """The earliest of all processes: the lowest step, then the first field in causal order."""

    @property
    def equal(self) -> bool:
        """Whether nothing differs and nothing is missing that should be there."""
        return self.first is None and not any(anchor.short for anchor in self.anchors)


def compare_fingerprints(left: Record, right: Record) -> TraceComparison:
    """Compare the training traces of two runs. The order of rows bears on nothing."""
    ranks = {row.process_key: row.rank for row in (*right.processes, *left.processes)}
    both = bool(left.fingerprints and right.fingerprints)
    schedules = _schedules(left), _schedules(right)
    found = list(pairs(left, right))
    anchors = []
    for pair in found:
        process_key = pair.key[0]
        same = both and schedules[0].get(process_key) == schedules[1].get(process_key)
        anchors.append(_compare(pair, ranks.get(process_key), same_schedule=same))
    return TraceComparison(
        anchors=tuple(anchors),
        left_traced=bool(left.fingerprints),
        right_traced=bool(right.fingerprints),
        first=_spread(_earliest(anchors), found),
    )


def _schedules(record: Record) -> dict[str, str]:
    """Return how often each process was to be traced, as it chose or was told."""
    return {row.process_key: row.value for row in record.settings if row.name == "trace.every"}


def _compare(pair: Pair, rank: int | None, *, same_schedule: bool) -> AnchorComparison:
    unused = _unused(pair)
    differing = _without(pair, {state.field for state in unused})
    left, right = pair.left.steps, pair.right.steps
    alone_left, alone_right = sorted(left.keys() - right.keys()), sorted(right.keys() - left.keys())
    return AnchorComparison(
        process_key=pair.key[0],
        rank=rank,
        anchor=pair.key[1],
        left_steps=len(left),
        right_steps=len(right),
        compared_steps=len(pair.shared),
        equal_steps=len(pair.shared) - len(differing),
        missing_left=tuple(alone_right[:NAMED]),
        missing_right=tuple(alone_left[:NAMED]),
        missing_steps=len(alone_left) + len(alone_right),
        missing_fields=_missing_fields(pair),
        same_schedule=same_schedule,
        fingerprints=_counted(pair),
        tensors=max(side.tensor_count() for side in (pair.left, pair.right)),
        first=_first(pair, rank, differing),
        unused=unused,
        drift=drifts(pair),
    )


def _without(pair: Pair, unused: set[str]) -> dict[int, tuple[FieldKey, ...]]:
    """Return what differs at each step, but for some fields."""
    rest = ((step, tuple(key for key in keys if key[0] not in unused)) for step, keys in pair.differing.items())
    return {step: keys for step, keys in rest if keys}


def _unused(pair: Pair) -> tuple[UnusedState, ...]:
    """Return the random states that differ before anything else does, or without it, and cannot have caused it."""
    steps: dict[str, list[int]] = {}
    for step, keys in pair.differing.items():
        for field, _ in keys:
            if field.startswith(RANDOM):
                steps.setdefault(field, []).append(step)
    effect = _effect(pair.differing)
    return tuple(
        UnusedState(field=field, first_step=at[0], steps=len(at))
        for field, at in sorted(steps.items())
        if effect is None or not (_follows(field, at[0], effect) or _may_cause(pair, field, at, effect[0]))
    )


def _effect(differing: Mapping[int, tuple[FieldKey, ...]]) -> tuple[int, FieldKey] | None:
    """Return the first difference that is none of a random state."""
    return next(((step, key) for step, keys in differing.items() for key in keys if _is_effect(key)), None)


def _is_effect(key: FieldKey) -> bool:
    return not key[0].startswith(RANDOM)


def _follows(field: str, first_step: int, effect: tuple[int, FieldKey]) -> bool:
    """Say whether a random state differs only after something else does: a consequence, which hides nothing."""
    return (first_step, causal((field, 0))) > (effect[0], causal(effect[1]))


def _may_cause(pair: Pair, field: str, at: Sequence[int], effect_step: int) -> bool:
    """Say whether a generator stands elsewhere at the step of an effect and moves about it, on either side."""
    if effect_step not in at:
        return False
    position = bisect_left(pair.shared, effect_step)
    window = pair.shared[max(0, position - 1) : position + 2]
    told = [words for step in window if (words := pair.words(step, (field, 0))) is not None]
    return len(told) < 2 or any(len(set(side)) > 1 for side in zip(*told, strict=True))


def _missing_fields(pair: Pair) -> tuple[str, ...]:
    """Name fields that one side alone told; a random state and a sketch decide nothing."""
    found = []
    for step in pair.shared:
        alone = pair.left.steps[step].keys() ^ pair.right.steps[step].keys()
        found += [
            f"{key[0]} at step {step}" for key in sorted(alone, key=causal) if _is_effect(key) and key[0] != SKETCH
        ]
        if len(found) >= NAMED:
            break
    return tuple(found[:NAMED])


def _counted(pair: Pair) -> int:
    """Count the fingerprints that were compared."""
    total = 0
    for step in pair.shared:
        theirs = pair.right.steps[step]
        for key, row in pair.left.steps[step].items():
            if key in theirs and key[0] != SKETCH:
                total += max(len(row.words), len(theirs[key].words)) // WORD
    return total


def _first(pair: Pair, rank: int | None, differing: dict[int, tuple[FieldKey, ...]]) -> FirstDifference | None:
    step = next(iter(differing), None)
    if step is None:
        return None
    what, *also = [field_difference(pair, step, key) for key in differing[step]]
    earlier = pair.shared[: bisect_left(pair.shared, step)]
    last_equal = earlier[-1] if earlier else None
    adjacent = step == (0 if last_equal is None else last_equal + 1)
    weights_known = (adjacent and last_equal is not None) or pair.words(step, ("weight", 0)) is not None
    known = Circumstances(
        field=what.field,
        step=step,
        weights_known=weights_known,
        adjacent=adjacent,
        batch_known=pair.words(step, ("batch", 0)) is not None,
        update_known=last_equal is not None and pair.words(last_equal, ("parameter", 0)) is not None,
        besides_weights=what.field == BUFFER and weights_besides(pair, step),
        same_modules=pair.left.models_at(step).classes == pair.right.models_at(step).classes,
    )
    effect = _effect(differing) if what.field.startswith(RANDOM) else None
    return FirstDifference(
        process_key=pair.key[0],
        rank=rank,
        anchor=pair.key[1],
        step=step,
        what=what,
        also=tuple(also),
        cause=cause(known),
        last_equal=last_equal,
        adjacent=adjacent,
        absorbed=not known.besides_weights and _absorbed(pair, step, differing),
        effect_step=effect[0] if effect else None,
        effect_field=effect[1][0] if effect else None,
        at_seconds=min(row.at_seconds for side in (pair.left, pair.right) for row in side.steps[step].values()),
    )


def _absorbed(pair: Pair, since: int, differing: dict[int, tuple[FieldKey, ...]]) -> bool:
    told = any(pair.words(step, ("parameter", 0)) for step in pair.shared if step >= since)
    return told and not any(key[0] in _OF_WEIGHTS for keys in differing.values() for key in keys)


def _earliest(anchors: Sequence[AnchorComparison]) -> FirstDifference | None:
    """Return the earliest first difference. Anchors of one process count apart, so that their times decide."""
    by_process: dict[str, FirstDifference] = {}
    for first in (anchor.first for anchor in anchors if anchor.first is not None):
        best = by_process.get(first.process_key)
        if best is None or (first.at_seconds, *_position(first)) < (best.at_seconds, *_position(best)):
            by_process[first.process_key] = first
    return min(by_process.values(), key=_position, default=None)


def _position(first: FirstDifference) -> tuple[int, tuple[int, str, int], str]:
    return first.step, causal((first.what.field, 0)), first.process_key


def _spread(first: FirstDifference | None, found: Sequence[Pair]) -> FirstDifference | None:
    """Say in which processes a first difference shows."""
    if first is None:
        return None
    there = [pair for pair in found if pair.key[1] == first.anchor and first.step in pair.shared]
    shows = [pair for pair in there if pair.key[0] == first.process_key or _affected(pair, first.step)]
    # Ranks share their gradients: what one of them was given bears on those of all.
    told = all(pair.words(first.step, ("batch", 0)) is not None for pair in shows)
    untold = first.cause is Cause.GRADIENT_NUMERICS and not told
    return replace(
        first,
        cause=Cause.UNTOLD_INPUT if untold else first.cause,
        shows_in=tuple(sorted(pair.key[0] for pair in shows)),
        shared=sum((first.what.field, 0) in pair.differing.get(first.step, ()) for pair in shows) > 1,
        traced_in=tuple(sorted(pair.key[0] for pair in there)),
    )


def _affected(pair: Pair, step: int) -> bool:
    return any(map(_is_effect, pair.differing.get(step, ())))
