"""What an event log holds, kind by kind; what needs no more than a row of the manifest is read as one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from repro.evidence.model import (
    Checkpoint,
    CheckpointState,
    CheckpointTensor,
    Entropy,
    Fingerprint,
    Gap,
    GeneratorState,
    Hyperparameter,
    Metric,
    Model,
    ModelModule,
    ModelTensor,
    Operation,
    Seed,
    Setting,
    TracedTensor,
)
from repro.evidence.points import Gathered
from repro.record.eventlog.chain import Chain


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A process in which the agent woke up."""

    process_key: str
    parent_key: str | None
    pid: int
    argv: tuple[str, ...]
    executable: str
    prefix: str
    base_prefix: str
    python_version: str
    implementation: str
    build: str
    path: tuple[str, ...]
    rank: int | None
    world_size: int | None
    started_at: float
    """Seconds since the epoch."""
    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """A process was told how a child of its ended."""

    pid: int
    status: int
    """An exit code, or the negative number of a signal."""
    at: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """A file was opened; the state is the file's at that time, just before the open."""

    process_key: str
    path: str
    mode: Literal["read", "write"]
    library: str
    at: float
    size_bytes: int | None
    mtime_ns: int | None
    inode: int | None
    existed: bool
    ctime_ns: int | None = None
    device: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rename:
    """A file or directory was asked to get another name."""

    source: str
    target: str
    at: float
    process_key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """A file was asked to be removed."""

    path: str
    at: float
    process_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Spawn:
    """A process started another program."""

    process_key: str
    executable: str
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Determinism:
    """A setting that the training changed, or an operation that has no deterministic way."""

    process_key: str
    kind: Literal["change", "operation"]
    name: str
    before: str | None
    """Of a change: the value that it had."""
    value: str
    """Of a change the new value; of an operation `warned` or `refused`."""
    site: str


@dataclass(slots=True, kw_only=True)
class Events:
    """All that the agent saw, grouped by kind; each list in the order of the files, then of the lines."""

    starts: list[Start] = field(default_factory=list)
    ended_at: dict[str, float] = field(default_factory=dict)
    """Process key to seconds since the epoch, of the processes that said goodbye."""
    libraries: list[tuple[str, str, str]] = field(default_factory=list)
    """Process key, library, version."""
    opens: list[Open] = field(default_factory=list)
    renames: list[Rename] = field(default_factory=list)
    removes: list[Remove] = field(default_factory=list)
    canaries: set[str] = field(default_factory=set)
    """Keys of the processes whose agent opened the canary, and saw itself do it."""
    spawns: list[Spawn] = field(default_factory=list)
    exits: list[Exit] = field(default_factory=list)
    seeds: list[Seed] = field(default_factory=list)
    substituted: list[tuple[str, str]] = field(default_factory=list)
    """Process key and function or stream, where a replay put the recorded value in place of another."""
    entropy: list[Entropy] = field(default_factory=list)
    states: list[GeneratorState] = field(default_factory=list)
    settings: list[Setting] = field(default_factory=list)
    determinism: list[Determinism] = field(default_factory=list)
    metrics: list[Metric] = field(default_factory=list)
    """Those told in a log, one by one."""
    points: Gathered = field(default_factory=Gathered)
    """Those told in files of points, and there are many."""
    traced_tensors: dict[tuple[str, str, int], tuple[TracedTensor, ...]] = field(default_factory=dict)
    """Process key, anchor and step to the list that stands from then on; a later one of the same step replaces it."""
    fingerprints: list[Fingerprint] = field(default_factory=list)
    chains: dict[str, str] = field(default_factory=dict)
    """Process key to the last link of its trace's chain, or `BROKEN`; of the processes that traced something."""
    hyperparameters: list[Hyperparameter] = field(default_factory=list)
    models: list[Model] = field(default_factory=list)
    model_modules: list[ModelModule] = field(default_factory=list)
    model_tensors: list[ModelTensor] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    checkpoint_tensors: list[CheckpointTensor] = field(default_factory=list)
    checkpoint_states: list[CheckpointState] = field(default_factory=list)
    checkpoint_files: dict[tuple[str, int], tuple[int | None, int | None]] = field(default_factory=dict)
    """Process key and ordinal to the file's size in bytes and its modification time in nanoseconds, where known."""
    operations: list[Operation] = field(default_factory=list)
    mapped: set[str] = field(default_factory=set)
    """Paths of what any process had mapped as code when it said goodbye."""
    gaps: list[Gap] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Log:
    """One log while it is read: whose it is, and what its lines count."""

    start: Start
    events: Events
    chain: Chain
    places: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Anchor and step to the fields that were told of it so far."""
    operations: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Anchor and step to the operations that were told of it so far."""
    told: Counter[str] = field(default_factory=Counter)
    """Models and checkpoints that were told so far."""
    series: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Number of a series to its name and type."""
    configured: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Source and name to the values that were given so far."""
