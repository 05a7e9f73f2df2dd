"""Captures: one file per kind of fact. Adding one touches one file.

A capture is a module of this folder that defines any of four functions, each `(Context) -> Findings`:

- `before` runs before the command starts, so it delays the training: only what the run itself may change belongs there;
- `alongside` runs in a background thread from the command's start: it needs no interpreter, nor what others find;
- `beside` runs in another background thread once the first Python process has reported, or the command has ended;
- `after` runs when the command has ended, with everything that the agent saw.

Captures run in the order of their names, and each sees in `context.findings` what those before it found; alongside,
what was found before the command. A capture that cannot see something says so with a `Gap`; one that fails is turned
into a gap by the recorder, and never costs the run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final, Literal

from repro.evidence.model import (
    Checkpoint,
    CodeFile,
    Continuation,
    DataFile,
    Dataset,
    Fact,
    FileChange,
    Gap,
    Metric,
    Package,
    PackageChange,
    Program,
    SharedObject,
    SystemPackage,
    Tolerance,
)
from repro.evidence.objects import Objects
from repro.record.eventlog import Events, Start
from repro.record.kernel.log import KernelEvents
from repro.record.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What captures found: rows of the manifest. Two of them add up."""

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
    checkpoints: tuple[Checkpoint, ...] = ()
    """Those that the agent told, with what is known of their files."""
    continuations: tuple[Continuation, ...] = ()
    metrics: tuple[Metric, ...] = ()
    """Those that no agent told of."""
    tolerances: tuple[Tolerance, ...] = ()
    withdrawn: tuple[str, ...] = ()
    """Paths of code files, found earlier, whose bytes were lost after all: they have no row, and a gap names each."""

    def __add__(self, other: Findings) -> Findings:
        return Findings(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def fact(self, topic: str, name: str) -> str | None:
        """Return the value of a fact, or `None` if it was not found."""
        return next((f.value for f in self.facts if (f.topic, f.name) == (topic, name)), None)


class Patience:
    """How long a capture beside the command may go on: freely while the command runs, then for a limited time.

    A signal that asks us to end is the command's first of all: what can be done later is dropped at once, what only
    now can be seen of files goes on for `GRACE_SECONDS`. A signal after the command has ended is ours alone.
    """

    GRACE_SECONDS: Final = 5.0
    """Schedulers kill what has not ended 10 s (containers) or 30 s (batch systems) after they asked it to."""

    def __init__(self, limit_seconds: float) -> None:
        self.limit_seconds = limit_seconds
        self._ended_at: float | None = None
        self._asked = threading.Event()
        self._asked_again = threading.Event()

    def command_ended(self) -> None:
        """Start the clock."""
        self._ended_at = time.monotonic()

    def lose(self) -> None:
        """Make haste: the user, or a scheduler, wants us gone. Safe in a signal handler."""
        (self._asked if self._ended_at is None else self._asked_again).set()

    @property
    def ended(self) -> bool:
        """Whether the command has ended."""
        return self._ended_at is not None

    @property
    def lost(self) -> bool:
        """Whether to stop hashing files, too."""
        return self._asked_again.is_set() or (self._asked.is_set() and self._is_past(self.GRACE_SECONDS))

    @property
    def spent(self) -> bool:
        """Whether to give up now whatever a later run could do as well."""
        return self._asked.is_set() or self._asked_again.is_set() or self._is_past(self.limit_seconds)

    def _is_past(self, limit_seconds: float) -> bool:
        return self._ended_at is not None and time.monotonic() > self._ended_at + limit_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a capture may know."""

    argv: tuple[str, ...]
    working_directory: Path
    root: Path
    """The code tree: the git work tree, else the working directory."""
    environment: Mapping[str, str]
    """As the user had it, without what was added for the agent."""
    objects: Objects
    cache: Path
    """A directory that may be dropped at will."""
    home: Path
    """The store's own directory: nothing in it belongs to the run."""
    code_paths: tuple[str, ...] | None = None
    """A replay: capture just these encoded paths, relative to the root, and ask no git."""
    declared: tuple[str, ...] = ()
    """Data that the user named, as given: files and folders, relative to the working directory."""
    trace: bool = True
    """Whether the kernel may be asked which files the run opens; `False` where the user said `--no-trace`."""
    wheelhouse: Literal["auto", "always", "never"] = "auto"
    """Whether wheels are kept: `auto` keeps those that could not be fetched again."""
    settings: Settings = field(default_factory=Settings)
    findings: Findings = field(default_factory=Findings)
    """What earlier captures found."""
    notes: dict[str, object] = field(default_factory=dict)
    """What a capture keeps for its own later moments, by its module's name."""
    interpreter: Start | None = None
    """Beside and after: how the first Python process started."""
    entropy: Path | None = None
    """A replay: the file of what the agent puts back, which the training does not read."""
    events: Events | None = None
    """After: all that the agent saw."""
    kernel: KernelEvents | None = None
    """After: all that the kernel layer saw; `None` where there was none."""
    cpu_seconds: float | None = None
    """After: what the command and its descendants used."""
    started_at_ns: int = 0
    """Just before the code tree was captured, in nanoseconds since the epoch."""
    patience: Patience = field(default_factory=lambda: Patience(0.0))
    progress: Callable[[str], None] = lambda message: None


def observed(topic: str, name: str, value: object) -> Fact:
    """Return a fact that was seen, not declared."""
    return Fact(topic=topic, name=name, value=str(value), source="observed")
