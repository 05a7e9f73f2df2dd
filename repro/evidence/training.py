"""What a training did, step by step: rows of the manifest, under the rules of `repro.evidence.model`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Moment = Literal["import", "first-step", "end"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """One call that seeded a generator."""

    process_key: str
    ordinal: int
    """Counts the calls of this function in this process, from 0."""
    function: str
    """Such as `torch.manual_seed`."""
    argument: str
    site: str
    """`file:line` of the caller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entropy:
    """One value that an unseeded generator started from: what a replay puts back."""

    process_key: str
    stream: str
    """Such as `numpy.randbits`, `random.Random`, `torch.initial_seed`."""
    ordinal: int
    value: str
    site: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorState:
    """Digest of a random generator's state at a moment."""

    process_key: str
    moment: Moment
    generator: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A setting that bears on the bits, as it stood at a moment: determinism flags, threads, optimiser settings."""

    process_key: str
    moment: Moment
    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One number of the trace."""

    process_key: str
    name: str
    """`loss`, `learning_rate.0`, …"""
    step: int
    """Counts from 0, per process and metric: backward passes for `loss`, optimiser steps for `learning_rate`."""
    value: float
    """Exact: every float16, bfloat16, float32 and float64 is a float64."""
    dtype: str
    """The type that it had in the run, such as `float32`; `bits` are shown in it."""
    at_seconds: float
    """Since the process started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedTensor:
    """One tensor whose fingerprints the trace tells, such as a parameter that an optimiser updates."""

    process_key: str
    anchor: str
    """What the steps are counted of: `optimizer.0`, `optimizer.1`, …, or `backward` where no optimiser object steps."""
    step: int
    """From which step on the list of tensors stands; a later list replaces it whole."""
    ordinal: int
    """Place in the list, from 0."""
    name: str
    """As the model names it, such as `encoder.0.weight`; `group.0.3` where no module holds it."""
    shape: str
    """Such as `[64, 3, 7, 7]`."""
    dtype: str
    device: str
    """Such as `cpu`, `cuda:0`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """What one field of a traced step held; `docs/adr/0010-the-training-trace.md` defines the numbers."""

    process_key: str
    anchor: str
    step: int
    """Counts the steps of the anchor from 0; which are traced is the schedule's."""
    place: int
    """Among what was told of this step, from 0, in causal order: the first place to differ is where two runs part."""
    field: str
    """`order`, `batch`, `rng.torch`, `rng.cuda.0`, `rng.numpy`, `rng.python`, `weight`, `buffer`, `gradient`,
    `hyperparameter`, `parameter`, `state` or `sketch`."""
    words: str
    """16 hexadecimal digits for each tensor of the list, or for the one thing that the field is; 16 dashes where a
    tensor has nothing, as a gradient that is `None`. Of a `sketch`, the big-endian bits of 8 float64."""
    at_seconds: float
    """Since the process started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyperparameter:
    """One value that the run was configured with, as the library that read it understood it."""

    process_key: str
    source: str
    """Where it comes from: `argparse`, `click`, `hydra`, `mlflow`, `repro.log_param`, …"""
    name: str
    """Nested names are joined by dots: `optimizer.lr`."""
    ordinal: int
    """Counts the values that this name was given by this source in this process, from 0."""
    value: str
    """As text; secrets are replaced by `<redacted>`."""
    site: str
    """`file:line` of the caller."""
