"""What a run is: the rows of its manifest, as frozen dataclasses.

One class is one table of `schemas/manifest-1.sql`: same name in lower case with underscores, same columns, same order.
A test holds the two together. Everything is a string, an integer, a float, a boolean, a tuple of strings, or `None`:

- times end in `_at` and are UTC, ISO 8601 with microseconds and a `Z`;
- digests are `sha256:<64 hex digits>`;
- integers that may exceed 63 bits (seeds, entropy) are decimal strings, and bytes are hexadecimal strings;
- paths are text made by `repro.evidence.canonical.encode_path`, so that undecodable bytes survive.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from itertools import repeat
from typing import Any, Final, Literal, TypeVar

from repro.evidence.lineage import DataFile, Dataset, FileChange, Program
from repro.evidence.states import (
    Checkpoint,
    CheckpointState,
    CheckpointTensor,
    Continuation,
    Model,
    ModelModule,
    ModelTensor,
    Operation,
)
from repro.evidence.training import (
    Entropy,
    Fingerprint,
    GeneratorState,
    Hyperparameter,
    Metric,
    Moment,
    Seed,
    Setting,
    TracedTensor,
)

__all__ = [
    "SCHEMA_VERSION",
    "TABLES",
    "Checkpoint",
    "CheckpointState",
    "CheckpointTensor",
    "CodeFile",
    "Continuation",
    "DataFile",
    "Dataset",
    "Entropy",
    "Fact",
    "FileChange",
    "Fingerprint",
    "Gap",
    "GeneratorState",
    "Hyperparameter",
    "Metric",
    "Model",
    "ModelModule",
    "ModelTensor",
    "Moment",
    "Operation",
    "Package",
    "PackageChange",
    "Process",
    "Program",
    "Record",
    "Run",
    "Seed",
    "Setting",
    "SharedObject",
    "Source",
    "Status",
    "SystemPackage",
    "Tolerance",
    "TracedTensor",
    "columns",
    "from_columns",
]

_Row = TypeVar("_Row")

SCHEMA_VERSION: Final = 1
"""Version of the manifest's tables; a reader exists for each version that was ever released."""

Source = Literal["observed", "declared"]
Status = Literal["completed", "failed", "killed", "interrupted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One recorded execution of one command, with all its processes. One row."""

    run_id: str
    """12 hexadecimal digits, drawn at random."""
    replay_of: str | None
    """The run that this one repeats, if it is a replay."""
    argv: tuple[str, ...]
    """The command as given after `--`; secrets are replaced by `<redacted>`."""
    root: str
    """Absolute path of the code tree: the git work tree, else the working directory."""
    working_directory: str
    """Where the command ran, relative to `root`; `.` for the root itself."""
    started_at: str
    ended_at: str
    wall_seconds: float
    cpu_seconds: float
    """User and system time of the command and every descendant that was waited for."""
    peak_memory_bytes: int
    """Largest resident set of any single process of the run."""
    status: Status
    """`completed` (exit 0), `failed` (any other exit), `killed` (a signal), `interrupted` (SIGINT, or one relayed)."""
    exit_code: int | None
    """The command's own exit code; `None` when a signal ended it."""
    signal: str | None
    """Name of the signal that ended the command, such as `SIGKILL`."""
    recorder_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One Python process in which the agent woke up."""

    process_key: str
    """Names the role, not the pid, so that record and replay line up: `main`, `main/fork.1`, `main/worker.py.1`."""
    parent_key: str | None
    pid: int
    argv: tuple[str, ...]
    executable: str
    python_version: str
    rank: int | None
    world_size: int | None
    started_at: str
    ended_at: str | None
    """`None` when the process did not say goodbye: it was killed, or left by `os._exit`."""
    attempt: int = 0
    """How often an elastic launcher had started its group of ranks again before; 0 for the first start."""
    exit_code: int | None = None
    """What its parent was told when it waited for it; `None` where a signal ended it, or nobody was seen to wait."""
    signal: str | None = None
    """Name of the signal that ended it, such as `SIGKILL`, as its parent was told."""
    exited_at: str | None = None
    """When its parent was told, which may be a little later than its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One named fact.

    Topics: `code`, `data`, `environment`, `variable`, `commitment`, `hardware`, `stream`, `randomness`, `replay`,
    `trace`, `determinism`.
    """

    topic: str
    name: str
    value: str
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Something that should have been seen and was not."""

    topic: str
    """Such as `code`, `data`, `environment`, `hardware`, `lineage`, `lock`, `randomness`, `recorder`, `trace`."""
    subject: str
    """The thing not seen: a path, a distribution, a process."""
    reason: str
    """Why, in one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeFile:
    """One file of the code tree as it stood before the command started. The bytes are in the object store."""

    path: str
    """Relative to the root; absolute for the source tree of an editable install outside it."""
    kind: Literal["file", "symlink"]
    mode: int
    """Permission bits, such as 0o755."""
    size_bytes: int
    sha256: str
    """Of the content; of the target's name for a symbolic link."""
    state: Literal["committed", "modified", "untracked", "ignored", "editable", "plain"]
    """Against HEAD; `ignored` where git looks away and the run imported or executed it all the same; `editable` in the
    source tree of an editable install outside the root; `plain` where there is no git repository."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One installed distribution of the recorded interpreter."""

    name: str
    """Normalised as in PEP 503."""
    version: str
    """With its local tag, such as `2.13.0+cpu`."""
    location: str
    """The directory on `sys.path` that holds it."""
    origin: Literal["index", "direct", "editable", "unknown"]
    direct_url: str | None
    """From `direct_url.json` (PEP 610), credentials removed."""
    record_sha256: str | None
    """Digest of its RECORD file, which lists the hash of each installed file; `None` where it has none."""
    wheel_sha256: str | None
    """The wheel that a replay installs, an object in the store; `None` where the index is trusted to have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageChange:
    """One installed file that is not what the RECORD of its distribution says: somebody edited the environment."""

    package: str
    """Normalised as in PEP 503."""
    path: str
    """Absolute."""
    state: Literal["changed", "missing"]
    recorded_sha256: str
    """What RECORD says."""
    found_sha256: str | None
    """`None` when the file is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemPackage:
    """One package of the operating system."""

    manager: Literal["dpkg", "rpm", "apk", "conda"]
    name: str
    version: str
    architecture: str
    build: str | None
    """For conda, the build string and channel, as `BUILD CHANNEL`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedObject:
    """One library or program file that a process of the run had mapped as code."""

    path: str
    """Absolute."""
    build_id: str | None
    """The GNU build id in the ELF file, hexadecimal: it names one build, whatever the file is called."""
    size_bytes: int
    sha256: str | None
    """`None` when it was gone before it could be hashed."""
    owner: str | None
    """The distribution or system package that it belongs to, such as `torch 2.13.0+cpu` or `libc6 2.36-9`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far a replay may be from this run, fixed when it was recorded."""

    metric: str
    """A name. Where there is no limit, it may be a pattern of names, as `repro.evidence.judging` matches it."""
    absolute: float
    """Infinite of what is unjudged: compared and shown, it decides nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """All that a manifest holds."""

    run: Run
    processes: tuple[Process, ...] = ()
    facts: tuple[Fact, ...] = ()
    gaps: tuple[Gap, ...] = ()
    code_files: tuple[CodeFile, ...] = ()
    packages: tuple[Package, ...] = ()
    package_changes: tuple[PackageChange, ...] = ()
    system_packages: tuple[SystemPackage, ...] = ()
    shared_objects: tuple[SharedObject, ...] = ()
    data_files: tuple[DataFile, ...] = ()
    datasets: tuple[Dataset, ...] = ()
    file_changes: tuple[FileChange, ...] = ()
    programs: tuple[Program, ...] = ()
    seeds: tuple[Seed, ...] = ()
    entropy: tuple[Entropy, ...] = ()
    generator_states: tuple[GeneratorState, ...] = ()
    settings: tuple[Setting, ...] = ()
    metrics: Sequence[Metric] = ()
    traced_tensors: tuple[TracedTensor, ...] = ()
    fingerprints: tuple[Fingerprint, ...] = ()
    hyperparameters: tuple[Hyperparameter, ...] = ()
    models: tuple[Model, ...] = ()
    model_modules: tuple[ModelModule, ...] = ()
    model_tensors: tuple[ModelTensor, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()
    checkpoint_tensors: tuple[CheckpointTensor, ...] = ()
    checkpoint_states: tuple[CheckpointState, ...] = ()
    continuations: tuple[Continuation, ...] = ()
    operations: tuple[Operation, ...] = ()
    tolerances: tuple[Tolerance, ...] = field(default=())

    def fact(self, topic: str, name: str) -> str | None:
        """Return the value of a fact, or `None` if it was not seen."""
        return next((f.value for f in self.facts if (f.topic, f.name) == (topic, name)), None)


TABLES: Final[dict[str, type]] = {
    "run": Run,
    "process": Process,
    "fact": Fact,
    "gap": Gap,
    "code_file": CodeFile,
    "package": Package,
    "package_change": PackageChange,
    "system_package": SystemPackage,
    "shared_object": SharedObject,
    "data_file": DataFile,
    "dataset": Dataset,
    "file_change": FileChange,
    "program": Program,
    "seed": Seed,
    "entropy": Entropy,
    "generator_state": GeneratorState,
    "setting": Setting,
    "metric": Metric,
    "traced_tensor": TracedTensor,
    "fingerprint": Fingerprint,
    "hyperparameter": Hyperparameter,
    "model": Model,
    "model_module": ModelModule,
    "model_tensor": ModelTensor,
    "checkpoint": Checkpoint,
    "checkpoint_tensor": CheckpointTensor,
    "checkpoint_state": CheckpointState,
    "continuation": Continuation,
    "operation": Operation,
    "tolerance": Tolerance,
}
"""Table name to row class, in the order of `Record`'s fields."""


def columns(row_class: type) -> tuple[str, ...]:
    """Return the column names of a row class, in order."""
    return tuple(f.name for f in fields(row_class))


def from_columns(row_class: type[_Row], count: int, cells: Iterable[Iterable[Any]]) -> list[_Row]:
    """Make rows of their columns, all at once: half the time of the constructor, which has to get round its freezing.

    Args:
        row_class: A class of the model.
        count: How many rows.
        cells: The cells of each column, in its order; at least `count` of each.
    """
    rows = list(map(object.__new__, repeat(row_class, count)))
    for name, column in zip(columns(row_class), cells, strict=True):
        deque(map(getattr(row_class, name).__set__, rows, column), maxlen=0)
    return rows
