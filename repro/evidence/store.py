"""The store: where runs, objects and keys of this machine lie, and how a run is named."""

from __future__ import annotations

import base64
import binascii
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from repro.errors import AlteredError, ExecutionError, UsageError
from repro.evidence import canonical
from repro.evidence.objects import Objects
from repro.evidence.times import utc_ns

_RUN_ID = re.compile(r"[0-9a-f]{12}")
_SHORTCUTS: Final = {"@last": 0, "@prev": 1}


def home(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where the store lies: `$REPRO_HOME`, else `$XDG_DATA_HOME/repro`, else `~/.local/share/repro`."""
    if chosen := environment.get("REPRO_HOME"):
        return Path(chosen).expanduser().absolute()
    base = Path(environment.get("XDG_DATA_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".local" / "share") / "repro"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDirectory:
    """The directory of one run. What is in it depends on how far the run came."""

    path: Path

    @property
    def run_id(self) -> str:
        """The run's name: 12 hexadecimal digits."""
        return self.path.name

    @property
    def manifest(self) -> Path:
        """The DuckDB file."""
        return self.path / "manifest.duckdb"

    @property
    def statement(self) -> Path:
        """The seal: a DSSE envelope over an in-toto statement."""
        return self.path / "statement.dsse.json"

    @property
    def verdict(self) -> Path:
        """A replay's signed verdict."""
        return self.path / "verdict.dsse.json"

    @property
    def report(self) -> Path:
        """The directory for reports."""
        return self.path / "report"

    @property
    def events(self) -> Path:
        """The directory for event logs, there only while recording."""
        return self.path / "events"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One line of `repro runs`, read from the statement without checking its signature."""

    run_id: str
    status: str
    """The run's status, or `unsealed`, or `unreadable`."""
    command: tuple[str, ...] = ()
    started_at: str
    """Of an unsealed run: when its directory was made."""
    ended_at: str | None = None
    wall_seconds: float | None = None
    exit_code: int | None = None
    signal: str | None = None
    replay_of: str | None = None
    gaps: int | None = None
    """How many gaps the run has."""
    join_id: str | None = None
    """The join that it is a part of, or that it was merged from."""
    nodes: int | None = None
    """How many nodes the join has."""
    node: int | None = None
    """Which of these the run is; `None` for a merged one."""

    @property
    def sealed(self) -> bool:
        """Whether there is a statement that can be read."""
        return self.status not in ("unsealed", "unreadable")


class Store:
    """A directory of runs, objects, keys and caches."""

    def __init__(self, path: Path | None = None) -> None:
        self.root = home() if path is None else path
        self.objects = Objects(self.root / "objects")
        self.runs_path = self.root / "runs"
        self.keys = self.root / "keys"
        self.cache = self.root / "cache"

    def create_run(self) -> RunDirectory:
        """Make the directory of a new run.

        Raises:
            ExecutionError: The store cannot be written to.
        """
        try:
            self.runs_path.mkdir(mode=0o700, parents=True, exist_ok=True)
            while True:
                path = self.runs_path / secrets.token_hex(6)
                try:
                    path.mkdir(mode=0o700)
                except FileExistsError:
                    continue
                return RunDirectory(path=path)
        except OSError as error:
            raise ExecutionError(
                f"cannot make a run in {self.runs_path}: {error.strerror}",
                hint="set REPRO_HOME to a writable directory",
            ) from error

    def find(self, reference: str) -> RunDirectory:
        """Return the run that a full id, a unique beginning of one, `@last` or `@prev` names.

        `@last` and `@prev` are the newest and the second newest sealed run, replays included, by when they started.

        Raises:
            UsageError: No run, or more than one, answers to that name.
        """
        if reference.startswith("@"):
            return self._recent(reference)
        known = self._ids() if reference else ()
        found = [run_id for run_id in known if run_id.startswith(reference)]
        if not found:
            raise UsageError(
                f"there is no run {reference!r} in {self.root}", hint="list the runs there are: repro runs"
            )
        if len(found) > 1:
            names = ", ".join(found[:8]) + (", …" if len(found) > 8 else "")
            raise UsageError(
                f"{reference!r} is the beginning of {len(found)} runs: {names}", hint="give more of the id"
            )
        return RunDirectory(path=self.runs_path / found[0])

    def summary(self, directory: RunDirectory) -> RunSummary:
        """Return a summary of one run, as `runs` does of all."""
        return _summary(directory)

    def runs(self) -> tuple[RunSummary, ...]:
        """Return a summary of each run, newest first. Nothing is verified, and no manifest is opened."""
        found = (_summary(RunDirectory(path=self.runs_path / run_id)) for run_id in self._ids())
        return tuple(sorted(found, key=lambda run: (run.started_at, run.run_id), reverse=True))

    def sealed_ids(self) -> frozenset[str]:
        """Return the ids of the runs that have a statement, whatever it says."""
        return frozenset(
            run_id for run_id in self._ids() if RunDirectory(path=self.runs_path / run_id).statement.exists()
        )

    def row_count(self, run_id: str, table: str) -> int | None:
        """Return how many rows a table of a run has, by its statement, unchecked; `None` where that cannot be read."""
        try:
            predicate = _predicate(RunDirectory(path=self.runs_path / run_id))
            return int(predicate["tables"][table]["rows"])
        except (AlteredError, OSError, binascii.Error, KeyError, TypeError, ValueError):
            return None

    def _recent(self, reference: str) -> RunDirectory:
        if reference not in _SHORTCUTS:
            raise UsageError(f"there is no run {reference!r}", hint=f"the shortcuts are {' and '.join(_SHORTCUTS)}")
        sealed = [run for run in self.runs() if run.sealed]
        index = _SHORTCUTS[reference]
        if index >= len(sealed):
            raise UsageError(
                f"there is no run {reference}: {self.root} holds {len(sealed)} sealed runs",
                hint="record one: repro record -- COMMAND",
            )
        return RunDirectory(path=self.runs_path / sealed[index].run_id)

    def _ids(self) -> tuple[str, ...]:
        try:
            entries = [entry.name for entry in self.runs_path.iterdir()]
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise ExecutionError(f"cannot read {self.runs_path}: {error.strerror}") from error
        return tuple(sorted(name for name in entries if _RUN_ID.fullmatch(name)))


def _summary(directory: RunDirectory) -> RunSummary:
    try:
        return _from_predicate(directory.run_id, _predicate(directory))
    except FileNotFoundError:
        return RunSummary(run_id=directory.run_id, status="unsealed", started_at=_made_at(directory.path))
    except (AlteredError, OSError, binascii.Error, KeyError, TypeError, ValueError):
        return RunSummary(run_id=directory.run_id, status="unreadable", started_at=_made_at(directory.path))


def _predicate(directory: RunDirectory) -> Any:
    envelope = canonical.loads(directory.statement.read_bytes())
    return canonical.loads(base64.b64decode(envelope["payload"]))["predicate"]


def _from_predicate(run_id: str, predicate: Any) -> RunSummary:
    texts = ("status", "started_at", "ended_at")
    if not all(isinstance(predicate[name], str) for name in texts):
        raise TypeError("a text is expected")
    return RunSummary(
        run_id=run_id,
        status=predicate["status"],
        command=tuple(str(word) for word in predicate["command"]),
        started_at=predicate["started_at"],
        ended_at=predicate["ended_at"],
        wall_seconds=float(predicate["wall_seconds"]),
        exit_code=predicate["exit_code"],
        signal=predicate["signal"],
        replay_of=predicate["replay_of"],
        gaps=len(predicate["gaps"]),
        **_joined(predicate),
    )


def _joined(predicate: Any) -> dict[str, Any]:
    join = predicate.get("join")
    if join is None:
        return {}
    node = None if join["node"] is None else int(join["node"])
    return {"join_id": str(join["id"]), "nodes": int(join["nodes"]), "node": node}


def _made_at(path: Path) -> str:
    try:
        return utc_ns(path.stat().st_mtime_ns)
    except OSError:
        return utc_ns(0)
