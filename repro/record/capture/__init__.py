"""Captures: one file per kind of fact. Adding one touches one file.

A capture is a module of this folder that defines any of three functions, each `(Context) -> Findings`:

- `before` runs before the command starts, so it delays the training: only what the run itself may change belongs there;
- `beside` runs in a background thread once the first Python process has reported, or the command has ended;
- `after` runs when the command has ended, with everything that the agent saw.

Captures run in the order of their names, and each sees in `context.findings` what those before it found. A capture that
cannot see something says so with a `Gap`; one that fails is turned into a gap by the recorder, and never costs the run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Protocol

from repro.evidence.model import CodeFile, DataFile, Fact, Gap, Package
from repro.evidence.objects import Objects
from repro.record.eventlog import Events, Start


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What captures found: rows of the manifest. Two of them add up."""

    facts: tuple[Fact, ...] = ()
    gaps: tuple[Gap, ...] = ()
    code_files: tuple[CodeFile, ...] = ()
    packages: tuple[Package, ...] = ()
    data_files: tuple[DataFile, ...] = ()

    def __add__(self, other: Findings) -> Findings:
        return Findings(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def fact(self, topic: str, name: str) -> str | None:
        """Return the value of a fact, or `None` if it was not found."""
        return next((f.value for f in self.facts if (f.topic, f.name) == (topic, name)), None)


class Patience:
    """How long a capture beside the command may go on: freely while the command runs, then for a limited time."""

    def __init__(self, limit_seconds: float) -> None:
        self.limit_seconds = limit_seconds
        self._deadline: float | None = None
        self._lost = threading.Event()

    def command_ended(self) -> None:
        """Start the clock."""
        self._deadline = time.monotonic() + self.limit_seconds

    def lose(self) -> None:
        """Stop waiting now: the user, or a scheduler, wants us gone. Safe in a signal handler."""
        self._lost.set()

    @property
    def ended(self) -> bool:
        """Whether the command has ended."""
        return self._deadline is not None

    @property
    def spent(self) -> bool:
        """Whether to give up now."""
        return self._lost.is_set() or (self._deadline is not None and time.monotonic() > self._deadline)


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
    findings: Findings = field(default_factory=Findings)
    """What earlier captures found."""
    interpreter: Start | None = None
    """Beside and after: how the first Python process started."""
    events: Events | None = None
    """After: all that the agent saw."""
    started_at_ns: int = 0
    """Just before the code tree was captured, in nanoseconds since the epoch."""
    patience: Patience = field(default_factory=lambda: Patience(0.0))
    progress: Callable[[str], None] = lambda message: None


class Capture(Protocol):
    """What the recorder calls; a capture may leave out any of these."""

    def before(self, context: Context) -> Findings:
        """Look before the command starts."""
        ...

    def beside(self, context: Context) -> Findings:
        """Look while the command runs."""
        ...

    def after(self, context: Context) -> Findings:
        """Look when the command has ended."""
        ...


def observed(topic: str, name: str, value: object) -> Fact:
    """Return a fact that was seen, not declared."""
    return Fact(topic=topic, name=name, value=str(value), source="observed")
