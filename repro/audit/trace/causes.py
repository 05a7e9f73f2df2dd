"""Of what kind a first difference is: what it says about the cause, by what was still equal before it.

The fields of a step come in causal order, so the first that differs, while all before it are equal, tells where the
difference came in: from outside (data, order, random numbers, settings, somebody's hand on the weights) or from the
arithmetic itself. That holds as far as the trace reaches. Where the steps before are not traced, a difference in the
gradients may be the consequence of an earlier one in anything, and is called so.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from repro.audit.trace.pairs import BUFFER, RANDOM, STRUCTURE


class Cause(StrEnum):
    """Kinds of a first difference."""

    STRUCTURE = "structure"
    """Other tensors are trained: another number of them, other shapes or types."""
    SAMPLE_ORDER = "sample-order"
    """The samplers handed out other indices."""
    BATCH_CONTENT = "batch-content"
    """The same indices, and other values in the batch."""
    RANDOM_STATE = "random-state"
    """A random generator stood elsewhere, and the training drew from it."""
    INITIAL_WEIGHTS = "initial-weights"
    """The weights before the first step were others."""
    WEIGHTS_WRITTEN = "weights-written"
    """Something other than the optimizer wrote to the weights between two steps."""
    BUFFERS = "buffers"
    """Equal batches and weights, and other buffers, as running statistics: written to, or the forward pass differed."""
    WEIGHT_UPDATE = "weight-update"
    """Equal gradients, and other weights at the next step, where no optimizer object steps."""
    GRADIENT_NUMERICS = "gradient-numerics"
    """Equal batches and weights, and other gradients: what the code made of them came out otherwise."""
    UNTOLD_INPUT = "untold-input"
    """Equal weights and other gradients, and no loader told what the batch was."""
    HYPERPARAMETER = "hyperparameter"
    """The optimizer was set otherwise."""
    OPTIMIZER_NUMERICS = "optimizer-numerics"
    """Equal gradients and settings, and other weights: the optimizer computed otherwise."""
    OPTIMIZER_STATE = "optimizer-state"
    """The optimizer's own tensors differ, and the weights that it wrote do not."""
    UNTRACED = "untraced"
    """It came in where nothing was traced: in a step before, or before the first one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What is known about the moment of a first difference."""

    field: str
    step: int
    weights_known: bool
    """Whether the weights before the step are known to be equal, or are what differs."""
    adjacent: bool
    """Whether the step before was traced on both sides and equal, or there is none."""
    batch_known: bool
    """Whether the batch of the step was told."""
    update_known: bool
    """Whether the weights that the step before led to were told: by an optimizer."""
    besides_weights: bool = False
    """Of the field `buffer`: whether frozen or untrained parameters differ, not buffers alone."""
    same_modules: bool = True
    """Whether the models are of the same classes on both sides, as far as they were told."""


_CAUSES = {
    STRUCTURE: Cause.STRUCTURE,
    "order": Cause.SAMPLE_ORDER,
    "batch": Cause.BATCH_CONTENT,
    "hyperparameter": Cause.HYPERPARAMETER,
    "parameter": Cause.OPTIMIZER_NUMERICS,
    "state": Cause.OPTIMIZER_STATE,
}
_OF_THE_MODEL = frozenset({"weight", BUFFER, "gradient", "parameter", "state"})
"""Fields in which another model may show; the kinds before them have causes of their own."""


def cause(known: Circumstances) -> Cause:
    """Return the kind of a first difference; a field that no schema foresees is `UNTRACED`."""
    if known.field.startswith(RANDOM):
        return Cause.RANDOM_STATE
    if known.field in _OF_THE_MODEL and not known.same_modules:
        return Cause.STRUCTURE
    if known.field == "weight":
        return _of_weights(known)
    if known.field == BUFFER:
        return _of_buffers(known)
    if known.field == "gradient":
        return _of_gradients(known)
    found = _CAUSES.get(known.field, Cause.UNTRACED)
    # What an optimizer writes also hangs on its state after the step before.
    return Cause.UNTRACED if found is Cause.OPTIMIZER_NUMERICS and not known.adjacent else found


def _of_weights(known: Circumstances) -> Cause:
    if known.step == 0:
        return Cause.INITIAL_WEIGHTS
    if not known.adjacent:
        return Cause.UNTRACED
    return Cause.WEIGHTS_WRITTEN if known.update_known else Cause.WEIGHT_UPDATE


def _of_buffers(known: Circumstances) -> Cause:
    if not known.adjacent:
        return Cause.UNTRACED
    if known.besides_weights:
        return Cause.INITIAL_WEIGHTS if known.step == 0 else Cause.WEIGHTS_WRITTEN
    if not known.weights_known:
        return Cause.UNTRACED
    return Cause.BUFFERS if known.batch_known else Cause.UNTOLD_INPUT


def _of_gradients(known: Circumstances) -> Cause:
    if not known.weights_known:
        return Cause.UNTRACED
    return Cause.GRADIENT_NUMERICS if known.batch_known else Cause.UNTOLD_INPUT
