"""Make a record of what was seen. Pure: events, findings and the outcome in, rows of the manifest out."""

from __future__ import annotations

import json
import operator
import posixpath
import re
import signal
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from typing import Final, TypeVar

from repro.evidence.canonical import storable
from repro.evidence.model import DataFile, Fact, Gap, Process, Record, Run, Status, Tolerance
from repro.evidence.times import utc
from repro.record import redact
from repro.record.capture import Findings, observed
from repro.record.eventlog import Events, Exit, Start

_Row = TypeVar("_Row")
_PYTHON: Final = re.compile(r"(python|pypy)[0-9.]*(t|d)?$")
_WITHOUT_AGENT: Final = re.compile(r"-[A-Za-z]*[IES]")
_UNSEEN: Final = "no Python process reported to the agent: randomness, metrics and files were not observed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How the command ended."""

    returncode: int
    """Its exit code, or the negative number of the signal that ended it."""
    relayed: frozenset[int]
    started_at: float
    ended_at: float
    wall_seconds: float
    cpu_seconds: float
    peak_memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What is known of a run beforehand."""

    run_id: str
    replay_of: str | None
    argv: tuple[str, ...]
    root: str
    working_directory: str
    recorder_version: str
    tolerances: tuple[Tolerance, ...]


def assemble(identity: Identity, ended: Ended, events: Events, findings: Findings) -> Record:
    """Return the record, with one row for each primary key: the first that was seen."""
    argv, hidden = redact.argv(tuple(storable(word) for word in identity.argv))
    processes, twice = _processes(events)
    withdrawn = frozenset(findings.withdrawn)
    told = [*events.metrics, *findings.metrics]
    metrics, again = events.points.with_rows(told).points()
    gaps = [*findings.gaps, *events.gaps, *twice, *_agent_gaps(identity.argv, events)]
    gaps += (
        Gap(topic="recorder", subject=f"argv[{i}]", reason="it looks like a secret and was redacted") for i in hidden
    )
    if again:
        reason = f"{len(again)} points came twice for one process and step; the first of each was kept"
        gaps.append(Gap(topic="trace", subject="metrics", reason=reason))
    return Record(
        run=_run(identity, ended, argv),
        processes=processes,
        facts=tuple(sorted(_first((*findings.facts, *_chains(events), *_put_back(events)), _fact_key), key=_fact_key)),
        gaps=tuple(sorted(set(gaps), key=lambda g: (g.topic, g.subject, g.reason))),
        code_files=tuple(_first((f for f in findings.code_files if f.path not in withdrawn), lambda f: f.path)),
        packages=tuple(_last(findings.packages, lambda p: (p.name, p.location))),
        package_changes=tuple(_first(findings.package_changes, lambda p: p.path)),
        system_packages=tuple(_first(findings.system_packages, lambda p: (p.manager, p.name, p.architecture))),
        shared_objects=tuple(_first(findings.shared_objects, lambda s: s.path)),
        data_files=tuple(_first_files(findings.data_files)),
        datasets=tuple(_first(findings.datasets, lambda d: d.name)),
        file_changes=tuple(_first(findings.file_changes, lambda c: c.ordinal)),
        programs=tuple(_first(findings.programs, lambda p: p.ordinal)),
        seeds=tuple(_first(events.seeds, lambda s: (s.process_key, s.function, s.ordinal))),
        entropy=tuple(_first(events.entropy, lambda e: (e.process_key, e.stream, e.ordinal))),
        generator_states=tuple(_first(events.states, lambda s: (s.process_key, s.moment, s.generator))),
        settings=tuple(_first(events.settings, lambda s: (s.process_key, s.moment, s.name))),
        metrics=metrics,
        traced_tensors=tuple(row for rows in events.traced_tensors.values() for row in rows),
        fingerprints=tuple(_first(events.fingerprints, lambda f: (f.process_key, f.anchor, f.step, f.place))),
        hyperparameters=tuple(_first(events.hyperparameters, lambda h: (h.process_key, h.source, h.name, h.ordinal))),
        models=tuple(_first(events.models, lambda m: (m.process_key, m.ordinal))),
        model_modules=tuple(_first(events.model_modules, lambda m: (m.process_key, m.model, m.place))),
        model_tensors=tuple(_first(events.model_tensors, lambda t: (t.process_key, t.model, t.place))),
        checkpoints=tuple(_first((*findings.checkpoints, *events.checkpoints), lambda c: (c.process_key, c.ordinal))),
        checkpoint_tensors=tuple(_first(events.checkpoint_tensors, lambda t: (t.process_key, t.checkpoint, t.place))),
        checkpoint_states=tuple(_first(events.checkpoint_states, lambda s: (s.process_key, s.checkpoint, s.name))),
        continuations=tuple(_first(findings.continuations, lambda c: (c.process_key, c.checkpoint))),
        operations=tuple(_first(events.operations, lambda o: (o.process_key, o.anchor, o.step, o.place))),
        tolerances=tuple(_first((*identity.tolerances, *findings.tolerances), lambda t: t.metric)),
    )


def exit_status(returncode: int) -> int:
    """Return what a shell would see: the exit code, or 128 and the signal's number."""
    return returncode if returncode >= 0 else 128 - returncode


def _run(identity: Identity, ended: Ended, argv: tuple[str, ...]) -> Run:
    return Run(
        run_id=identity.run_id,
        replay_of=identity.replay_of,
        argv=argv,
        root=identity.root,
        working_directory=identity.working_directory,
        started_at=utc(ended.started_at),
        ended_at=utc(ended.ended_at),
        wall_seconds=ended.wall_seconds,
        cpu_seconds=ended.cpu_seconds,
        peak_memory_bytes=ended.peak_memory_bytes,
        status=_status(ended),
        exit_code=ended.returncode if ended.returncode >= 0 else None,
        signal=None if ended.returncode >= 0 else _signal_name(-ended.returncode),
        recorder_version=identity.recorder_version,
    )


def _status(ended: Ended) -> Status:
    if ended.returncode >= 0:
        return "completed" if ended.returncode == 0 else "failed"
    number = -ended.returncode
    return "interrupted" if number == signal.SIGINT or number in ended.relayed else "killed"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"SIGRTMIN+{number - signal.SIGRTMIN}" if number >= signal.SIGRTMIN else f"signal {number}"


def _first(rows: Iterable[_Row], key: Callable[[_Row], Hashable]) -> list[_Row]:
    """Keep the first row of each primary key."""
    found: dict[Hashable, _Row] = {}
    for row in rows:
        found.setdefault(key(row), row)
    return list(found.values())


def _first_files(rows: Sequence[DataFile]) -> Sequence[DataFile]:
    """Do the same for files, which may be a million and are in order: no key has to be kept to be compared."""
    key: Callable[[DataFile], tuple[str, str]] = attrgetter("path", "role")
    is_in_order = all(map(operator.lt, map(key, rows), map(key, islice(rows, 1, None))))
    return rows if is_in_order else _first(rows, key)


def _last(rows: Sequence[_Row], key: Callable[[_Row], Hashable]) -> list[_Row]:
    """Keep the last row of each key: a later capture knows more of a package, such as the wheel that was kept."""
    found = {key(row): row for row in rows}
    return list(found.values())


def _fact_key(fact: Fact) -> tuple[str, str]:
    return fact.topic, fact.name


def _chains(events: Events) -> Iterator[Fact]:
    """Yield where the chain of each process's trace ends: what the seal is over binds every line that was read."""
    return (observed("trace", f"chain.{key}", link) for key, link in events.chains.items())


def _put_back(events: Events) -> Iterator[Fact]:
    """Yield how often a replay gave what was recorded in place of what was drawn or passed, for each kind of it."""
    counts = Counter(name.partition(" ")[0].partition("@")[0] for _, name in events.substituted)
    if counts:
        told = [f"{name}: {count}" for name, count in sorted(counts.items())]
        yield observed("replay", "put_back", json.dumps(told))


def _processes(events: Events) -> tuple[tuple[Process, ...], list[Gap]]:
    starts = _first(events.starts, lambda start: start.process_key)
    counts = Counter(start.process_key for start in events.starts)
    reason = "more than one process reported under this name; they were taken as one"
    gaps = [Gap(topic="agent", subject=key, reason=reason) for key, count in counts.items() if count > 1]
    exits = _exits(starts, events.exits)
    rows = (_process(s, events.ended_at.get(s.process_key), exits.get(s.process_key)) for s in starts)
    return tuple(rows), gaps


def _exits(starts: Iterable[Start], exits: Iterable[Exit]) -> dict[str, Exit]:
    """Return how processes ended, as their parents were told: of the processes of a number, the last before that."""
    found: dict[str, Exit] = {}
    by_pid: dict[int, list[Start]] = {}
    for start in starts:
        by_pid.setdefault(start.pid, []).append(start)
    for each in exits:
        before = [start for start in by_pid.get(each.pid, ()) if start.started_at <= each.at]
        if before:
            found.setdefault(max(before, key=attrgetter("started_at")).process_key, each)
    return found


def _process(start: Start, ended_at: float | None, told: Exit | None) -> Process:
    return Process(
        process_key=start.process_key,
        parent_key=start.parent_key,
        pid=start.pid,
        argv=redact.argv(start.argv)[0],
        executable=start.executable,
        python_version=start.python_version,
        rank=start.rank,
        world_size=start.world_size,
        started_at=utc(start.started_at),
        ended_at=None if ended_at is None else utc(ended_at),
        attempt=start.attempt,
        exit_code=None if told is None or told.status < 0 else told.status,
        signal=None if told is None or told.status >= 0 else _signal_name(-told.status),
        exited_at=None if told is None else utc(told.at),
    )


def _agent_gaps(argv: tuple[str, ...], events: Events) -> list[Gap]:
    if not events.starts:
        return [Gap(topic="agent", subject=storable(argv[0]), reason=_UNSEEN)]
    reported = Counter(start.argv[1:] for start in events.starts)
    gaps: list[Gap] = []
    for spawn in events.spawns:
        if not is_python(spawn.argv[0] if spawn.argv else spawn.executable):
            continue
        if reported[spawn.argv[1:]] > 0:
            reported[spawn.argv[1:]] -= 1
        else:
            gaps.append(Gap(topic="agent", subject=" ".join(redact.argv(spawn.argv)[0])[:500], reason=_why(spawn.argv)))
    return gaps


def is_python(program: str) -> bool:
    """Say whether a program is a Python interpreter, by its name."""
    return _PYTHON.match(posixpath.basename(program)) is not None


def _why(argv: Sequence[str]) -> str:
    options = [word for word in argv[1:] if word.startswith("-")]
    if any(_WITHOUT_AGENT.fullmatch(option) for option in options):
        return "a Python process was started with -I, -E or -S, which keep the agent out: it was not observed"
    return "a Python process was started and never reported (its environment was cleared, or it did not start)"
