"""The sentences in which a comparison of training traces is told: in verdicts, reports and on the terminal."""

from __future__ import annotations

from typing import Final

from repro.audit.trace.causes import Cause
from repro.audit.trace.fields import DifferingTensor, FieldDifference
from repro.audit.trace.fingerprints import AnchorComparison, FirstDifference, TraceComparison
from repro.audit.trace.pairs import RANDOM, STRUCTURE
from repro.audit.trace.sketches import Drift
from repro.audit.wording import capital, counted, listed

_FIELDS: Final = {
    "order": "the order of samples",
    "batch": "the batch",
    "rng.torch": "the state of torch's random generator",
    "rng.numpy": "the state of NumPy's random generator",
    "rng.python": "the state of Python's random generator",
    "weight": "the weights before the step",
    "buffer": "the buffers and weights that are not trained",
    "gradient": "the gradients",
    "hyperparameter": "the optimizer's settings",
    "parameter": "the weights after the step",
    "state": "the optimizer's state",
    STRUCTURE: "the tensors that are trained",
}
_CAUSES: Final = {
    Cause.STRUCTURE: "the model is another one",
    Cause.SAMPLE_ORDER: "the samples were handed out in another order",
    Cause.BATCH_CONTENT: "the samples were asked for in the same order, and the batch held other values",
    Cause.RANDOM_STATE: "a random generator stood elsewhere, and the training drew from it",
    Cause.INITIAL_WEIGHTS: "the training began with other weights",
    Cause.WEIGHTS_WRITTEN: "something other than the optimizer changed the weights between two steps",
    Cause.BUFFERS: "batch and weights were equal, and buffers such as running statistics held other values: something "
    "wrote to them, they began otherwise, or the forward pass computed otherwise",
    Cause.WEIGHT_UPDATE: "the gradients were equal, and what updates the weights computed or was set otherwise",
    Cause.GRADIENT_NUMERICS: "batch and weights were equal, and other gradients were made of them: by another number "
    "of threads, device or library, or by code that changed the batch or the gradients",
    Cause.UNTOLD_INPUT: "the weights were equal, and no loader told what the batch was: it was another one, or the "
    "forward or backward pass computed otherwise",
    Cause.HYPERPARAMETER: "the optimizer was set otherwise, as with another learning rate",
    Cause.OPTIMIZER_NUMERICS: "gradients and settings were equal, and the optimizer computed otherwise, or found "
    "its own state changed",
    Cause.OPTIMIZER_STATE: "the optimizer keeps other numbers, and the weights that it wrote are equal",
    Cause.UNTRACED: "it came in where nothing was traced",
}
_PARTS: Final = {"hyperparameter": "parameter group"}
"""What a field has several fingerprints of, where it is of no tensors."""
_DENSER: Final = "`--trace-every 1` traces every step"


def cause_phrase(first: FirstDifference) -> str:
    """Say of what kind a first difference is, as a clause."""
    phrase = _CAUSES[first.cause]
    chance = [field.field for field in first.also if field.field.startswith(RANDOM)]
    if first.cause in (Cause.SAMPLE_ORDER, Cause.BATCH_CONTENT) and chance:
        phrase += f"; {listed([field_words(name) for name in chance])} differs too, which may be why"
    if first.effect_step is not None and first.effect_field is not None:
        phrase += f"; its first effect shows at step {first.effect_step:,}, in {field_words(first.effect_field)}"
    if first.absorbed:
        rounded = first.cause in (Cause.GRADIENT_NUMERICS, Cause.OPTIMIZER_STATE)
        phrase += "; the weights never differ" + (", for rounding absorbed it" if rounded else " at a traced step")
    return phrase


def field_words(field: str) -> str:
    """Name a field as in a sentence; a field that no schema foresees by its own name."""
    if field.startswith("rng.cuda."):
        return f"the state of the random generator of GPU {field.removeprefix('rng.cuda.')}"
    return _FIELDS.get(field, field)


def tensor_words(tensor: DifferingTensor) -> str:
    """Name a tensor with its shape and type: `0.weight [64, 3] float32`."""
    return " ".join(part for part in (tensor.name, tensor.shape, tensor.dtype) if part)


def extent_words(difference: FieldDifference) -> str:
    """Say how much of a field differs: `3 of 29 tensors: 0.weight [64, 3] float32 and 2 more`; empty for one thing."""
    if not difference.tensors:
        parts = counted(difference.of, _PARTS.get(difference.field, "part"))
        return f"{difference.differing:,} of {parts}" if difference.of > 1 else ""
    more = difference.differing - 1
    named = tensor_words(difference.tensors[0]) + (f" and {more:,} more" if more else "")
    return f"{difference.differing:,} of {counted(difference.of, 'tensor')}: {named}"


def place_words(first: FirstDifference) -> str:
    """Say where a first difference lies: `step 17 of optimizer.0 in rank 1 (main/rank1)`."""
    process = first.process_key if first.rank is None else f"rank {first.rank} ({first.process_key})"
    return f"step {first.step:,} of {first.anchor} in {process}"


def first_phrase(first: FirstDifference) -> str:
    """Say in one clause where the traces part: `the trace differs from step 17 of optimizer.0 in main on: …`."""
    extent = extent_words(first.what)
    return f"the trace differs from {place_words(first)} on: {field_words(first.what.field)}" + (
        f" ({extent})" if extent else ""
    )


def first_sentence(first: FirstDifference) -> str:
    """Say where the traces part, in what, and of what kind that is."""
    extent = extent_words(first.what)
    what = field_words(first.what.field) + (f" ({extent})" if extent else "")
    return f"{_parting(first)}, in {what}: {cause_phrase(first)}.{_spread(first)}{_between(first)}"


def short_sentence(first: FirstDifference) -> str:
    """Say where the traces part and in what, for who asks no more."""
    return f"{_parting(first)}, in {field_words(first.what.field)}."


def rest_sentence(first: FirstDifference) -> str:
    """Say what `short_sentence` leaves out."""
    extent = extent_words(first.what)
    return capital(f"{f'{extent}: ' if extent else ''}{cause_phrase(first)}.{_spread(first)}{_between(first)}")


def where_sentence(first: FirstDifference) -> str:
    """Say where the traces part, and nothing more."""
    return f"{_parting(first)}.{_spread(first)}{_between(first)}"


def _parting(first: FirstDifference) -> str:
    return f"The runs {'part' if first.adjacent else 'are first seen to differ'} at {place_words(first)}"


def _spread(first: FirstDifference) -> str:
    if len(first.traced_in) < 2:
        return ""
    shared = " Ranks share their gradients: it may have come in through any of these."
    hint = shared if first.shared and first.what.field == "gradient" else ""
    if len(first.shows_in) == len(first.traced_in):
        return f" It shows in every process that traced this step, {len(first.traced_in)} in all.{hint}"
    return f" It shows in {listed(first.shows_in, 8)}, of {len(first.traced_in)} processes that traced this step.{hint}"


def _between(first: FirstDifference) -> str:
    """Say what the trace leaves open about the steps before."""
    if first.adjacent:
        open_start = first.cause is Cause.UNTRACED
        return " The weights before the first step are not told, and may have been others." if open_start else ""
    if first.last_equal is None:
        return f" No step before it was traced in both runs; {_DENSER}."
    return f" They were equal at step {first.last_equal:,}; the steps between were not traced: {_DENSER}."


def drift_words(drift: Drift) -> str:
    """Say how far apart the weights were: `about 2.1e-08 of their norm after step 17`."""
    if drift.relative is None:
        return f"not measurable after step {drift.step:,} (not finite)"
    return f"about {drift.relative:.1e} of their norm after step {drift.step:,}"


def drift_phrase(anchor: AnchorComparison) -> str:
    """Say how far the weights of an anchor were apart, by an estimate; empty where their sketches agree."""
    return ", ".join(map(drift_words, anchor.drift))


def unused_phrases(trace: TraceComparison) -> tuple[str, ...]:
    """Say which random generators stood elsewhere to no effect, one clause for each and where it began."""
    places: dict[tuple[str, int, str], list[str]] = {}
    for anchor in trace.anchors:
        for state in anchor.unused:
            places.setdefault((state.field, state.first_step, anchor.anchor), []).append(anchor.process_key)
    return tuple(
        f"{field_words(field)} differs from step {step:,} of {anchor} in {listed(processes, 4)} on, to no effect "
        "on the training"
        for (field, step, anchor), processes in places.items()
    )


def short_phrases(trace: TraceComparison) -> tuple[str, ...]:
    """Say what one side alone traced although both were to trace it, one clause each."""
    return tuple(
        phrase
        for anchor in trace.anchors
        if anchor.short
        for phrase in (_missing_steps(anchor), _fields(anchor))
        if phrase
    )


def _missing_steps(anchor: AnchorComparison) -> str:
    if not anchor.missing_steps:
        return ""
    where = f"the trace of {anchor.anchor} in {anchor.process_key}"
    return f"{where} has {counted(anchor.left_steps, 'step')} in the original and {anchor.right_steps:,} in the replay"


def _fields(anchor: AnchorComparison) -> str:
    if not anchor.missing_fields:
        return ""
    return f"one side alone traced {listed(anchor.missing_fields)} of {anchor.anchor} in {anchor.process_key}"


def trace_evidence(trace: TraceComparison) -> str:
    """Say what was compared: `435 fingerprints of 29 tensors at 15 traced steps, all of them equal`; maybe nothing."""
    steps = sum(anchor.compared_steps for anchor in trace.anchors)
    if not steps:
        return ""
    number = sum(anchor.fingerprints for anchor in trace.anchors)
    tensors = sum(anchor.tensors for anchor in trace.anchors)
    equal = sum(anchor.equal_steps for anchor in trace.anchors)
    return (
        f"{counted(number, 'fingerprint')} of {counted(tensors, 'tensor')} at {counted(steps, 'traced step')}, "
        f"{'all' if equal == steps else f'{equal:,}'} of them equal"
    )
