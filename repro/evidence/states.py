"""What a training's state was: models, checkpoints, and the operations of a step; rows of the manifest.

`docs/adr/0011-checkpoints-models-and-operations.md` says why and defines the digests. Words are fingerprints as
`docs/adr/0010-the-training-trace.md` defines them: 16 hexadecimal digits, or 16 dashes where nothing could be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TensorKind = Literal["parameter", "frozen", "untrained", "buffer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A tree of modules that an anchor trains, as it was before a step."""

    process_key: str
    ordinal: int
    """Counts the models told by this process, from 0."""
    anchor: str
    """Whose parameters are in it: `optimizer.0`, …, or `backward`."""
    step: int
    """Of the anchor: what is told here stood before it; 0 for the initial values."""
    class_name: str
    """Of the outermost module, such as `torchvision.models.resnet.ResNet`."""
    digest: str
    """SHA-256 of the lines `module PATH CLASS` and `tensor NAME KIND DTYPE SHAPE WORD`, in order, each with its line
    feed: equal for two models of the same structure and the same values, wherever they lie."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelModule:
    """One module of a model."""

    process_key: str
    model: int
    """The `ordinal` of its `Model`."""
    place: int
    """In the order in which the modules hold each other, from 0, which is the outermost."""
    path: str
    """Such as `encoder.0`; empty for the outermost."""
    class_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTensor:
    """One tensor of a model, and what it held."""

    process_key: str
    model: int
    place: int
    """In the modules' order, from 0."""
    name: str
    """As `named_parameters` and `named_buffers` call it; one that modules share comes once, under its first name."""
    kind: TensorKind
    """`frozen` is a parameter that takes no gradient, `untrained` one that does and is not the anchor's to train."""
    shape: str
    """Such as `[64, 3, 7, 7]`; of a distributed tensor the part that lies here."""
    dtype: str
    device: str
    word: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A file of tensors that the training wrote or read."""

    process_key: str
    ordinal: int
    """Counts the checkpoints that this process wrote and read, from 0."""
    action: Literal["written", "read"]
    path: str
    """As in `DataFile.path`; empty where it went to no file, such as a buffer in memory."""
    library: str
    """`torch`, `safetensors`, …"""
    steps: str
    """Canonical JSON: each anchor to the steps it had begun in this process, such as `{"optimizer.0":12}`."""
    tensor_count: int
    digest: str
    """SHA-256 of the lines `NAME DTYPE SHAPE WORD` of its tensors, sorted, each with its line feed: what it holds,
    whatever the format of the file."""
    file_digest: str | None
    """Of the file just after it was written, or when it was read: `sha256:…`; `None` where it was not hashed."""
    at_seconds: float
    """Since the process started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointTensor:
    """One tensor in a checkpoint."""

    process_key: str
    checkpoint: int
    """The `ordinal` of its `Checkpoint`."""
    place: int
    """In the file's own order, from 0."""
    name: str
    """The keys that lead to it, joined by dots, such as `model.encoder.0.weight`."""
    shape: str
    dtype: str
    word: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointState:
    """What a training that goes on from a checkpoint needs besides, as it was when the checkpoint was written."""

    process_key: str
    checkpoint: int
    name: str
    """Such as `rng.torch`, `rng.torch.epoch`, `loader.0`, `ddp.0`: the ADR lists them."""
    value: str
    """Of a generator's state its bytes in base64; else canonical JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """A checkpoint read by this run that another recorded run wrote: this run goes on from that one."""

    process_key: str
    checkpoint: int
    """The `ordinal` of the `Checkpoint` that this run read."""
    from_run_id: str
    from_process_key: str
    from_checkpoint: int
    """The `ordinal` of the `Checkpoint` that the other run wrote."""
    matched_by: Literal["file", "content"]
    """The same bytes, or other bytes with the same tensors."""
    steps: str
    """Canonical JSON: each anchor to its steps since the very first run of the chain, when the checkpoint was written:
    a step S of this run is the step S + N of the whole training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation of a step that was looked at operation by operation."""

    process_key: str
    anchor: str
    """Whose step it was."""
    step: int
    place: int
    """In the order in which they were called, from 0."""
    name: str
    """As the dispatcher names it, such as `aten::mm`."""
    inputs: str
    """Types, shapes and fingerprints of the tensors given to it, such as `float32[64,10] 0123456789abcdef`; then
    numbers, and the state of the generator that it draws from. What it only writes over has no fingerprint."""
    words: str
    """The fingerprints of what it gave back, and of what it wrote to."""
    site: str
    """`file:line` of the caller. For one that autograd called, that of its forward operation and ` backward`; or
    empty."""
