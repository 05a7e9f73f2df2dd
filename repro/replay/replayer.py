"""The verb `replay`: run a recorded command again, somewhere else, and record that too. Judging is the auditor's."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, cast

from repro import plugs
from repro.errors import AlteredError, InconclusiveError, UsageError
from repro.evidence import integrity
from repro.evidence.canonical import decode_path, storable
from repro.evidence.joined import membership
from repro.evidence.model import Fact, Record
from repro.evidence.store import RunDirectory, Store
from repro.evidence.trust import trusted_keys
from repro.record.excerpt import WHOLE, Excerpt
from repro.record.recorder import Recorded, Request, record
from repro.record.tracing import Tracing, recorded
from repro.replay import executors, packages, workspace
from repro.replay.conditions import HOST_HINT, INHERITED
from repro.replay.data import Mismatch, inspect
from repro.replay.executors import Executor, Site
from repro.replay.inherited import as_recorded
from repro.replay.machine import Machine, observe
from repro.replay.meeting import Meeting, names_one
from repro.replay.plan import Plan, make
from repro.replay.relocation import Move, path_map, relocate
from repro.replay.workspace import Workspace

Progress = Callable[[str], None]

_NAMED_CONDITIONS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to replay."""

    executor: str = "venv"
    allow_changed_data: bool = False
    """Go on although inputs are not what the run read; the verdict then says so."""
    keep: bool = False
    """Leave the scratch directory."""
    pass_variables: tuple[str, ...] = ()
    """Names of environment variables to pass on from here."""
    trust: tuple[Path, ...] = ()
    """Public keys to trust, besides those that this machine trusts."""
    allow_unknown_signer: bool = False
    python: Path | None = None
    """The interpreter to build with."""
    excerpt: Excerpt = WHOLE
    """What part of the command to run."""
    tracing: Tracing | None = None
    """Which steps to fingerprint; `None` for those of the record."""
    output_fd: int = 2
    """Where what the command prints goes: standard output is for the verdict."""
    in_haste: bool = False
    """Do without what can only be told of files, libraries and packages: the replay's own record is not kept."""
    meeting: Meeting | None = None
    """Of one node's part of a run on several: which node it stands for, and where all of them meet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """A run and its repetition."""

    original: Record
    replay: Recorded
    plan: Plan
    changed_data: tuple[Mismatch, ...]
    scratch: Path | None
    """Where the tree was restored, if it was kept."""


def replay(reference: RunDirectory, store: Store, options: Options, *, progress: Progress) -> Replayed:
    """Verify a run, check its data, rebuild its environment and tree, run its command again and record that.

    Args:
        reference: The run to repeat.
        store: Where it lies, and where the replay's record will lie.
        options: How to go about it.
        progress: Called with what is going on.

    Raises:
        AlteredError: The record is not what was signed.
        UntrustedError: Nobody whom this machine trusts signed it.
        InconclusiveError: Data changed, an interpreter or a lock is missing, …: nothing was started.
        ExecutionError: The environment could not be built.
        UsageError: The options make no sense.
    """
    original, plan, machine, executor = _prepare(reference, store, options, progress)
    _refuse(plan)
    _refuse_lone_node(original, options)
    for condition in plan.conditions:
        if condition.matters or condition.name in ("determinism", "ending"):
            progress(condition.sentence)
    place = workspace.build(plan, store.objects, progress=progress)
    try:
        site = executor.prepare(plan, place, store, machine, progress)
        try:
            with as_recorded(original):
                repeated = record(_request(original, plan, place, site, options), store, progress=progress)
        finally:
            site.close()
    finally:
        if options.keep:
            progress(f"the replay's directory was kept: {place.root}")
        else:
            place.remove()
    _refuse_poor_environment(original, repeated, plan)
    return Replayed(
        original=original,
        replay=repeated,
        plan=plan,
        changed_data=plan.mismatches,
        scratch=place.root if options.keep else None,
    )


def dry_run(reference: RunDirectory, store: Store, options: Options, *, progress: Progress) -> Plan:
    """Return what `replay` would do, and what stands in its way, without building or starting anything.

    Raises: as `replay`, but what makes a replay impossible is told by the plan's conditions.
    """
    return _prepare(reference, store, options, progress)[1]


def _prepare(
    reference: RunDirectory, store: Store, options: Options, progress: Progress
) -> tuple[Record, Plan, Machine, Executor]:
    executor = _executor(options.executor)
    absent = [name for name in options.pass_variables if name not in os.environ]
    if absent:
        raise UsageError(f"--pass-env names what is not set here: {', '.join(absent)}")
    progress(f"verifying run {reference.run_id}")
    trusted = trusted_keys(store, options.trust)
    original = integrity.load(reference, store, trusted, allow_unknown_signer=options.allow_unknown_signer)
    machine = observe(original, store, options.python, progress=progress)
    inspection = inspect(original, store.objects, progress=progress, cache=store.cache)
    plan = make(
        original,
        inspection,
        machine,
        locked=_locked(original, store),
        imports=_imports(original, store),
        passed=options.pass_variables,
        environment=os.environ,
        allow_changed_data=options.allow_changed_data,
    )
    return original, plan.under(executor.conditions(plan, machine)), machine, executor


def _executor(name: str) -> Executor:
    executor = cast(Executor, plugs.load(executors, name))
    missing = executor.unavailable()
    if missing:
        raise UsageError(f"the executor {name} cannot be used here: {missing}")
    return executor


def _locked(original: Record, store: Store) -> Mapping[str, str]:
    digest = original.fact("environment", "lock")
    return packages.pins(store.objects.get(digest).decode("utf-8", "replace")) if digest else {}


def _imports(original: Record, store: Store) -> frozenset[str]:
    scripts = [file for file in original.code_files if file.kind == "file" and file.path.endswith(".py")]
    return packages.imported_names(store.objects.get(file.sha256) for file in scripts)


def _refuse(plan: Plan) -> None:
    """Stop before the start if anything stands in the way, naming all of it."""
    stops = plan.impossible
    if not stops:
        return
    sentences = [stop.note or stop.sentence for stop in stops[:_NAMED_CONDITIONS]]
    more = f"; and {len(stops) - _NAMED_CONDITIONS} more" if len(stops) > _NAMED_CONDITIONS else ""
    hints = tuple(dict.fromkeys(stop.hint for stop in stops if stop.hint))
    raise InconclusiveError(
        f"run {plan.run_id} cannot be replayed here: {'; '.join(sentences)}{more}", hint="; ".join(hints) or None
    )


def _refuse_lone_node(original: Record, options: Options) -> None:
    """Start no node that would wait for others which nobody starts."""
    member = membership(original)
    if member is not None and member.nodes > 1 and options.meeting is None and names_one(original):
        raise InconclusiveError(
            f"run {original.run.run_id} is node {member.node} of {member.nodes}: alone it would wait for the others",
            hint=f"replay the merged run; where there is none yet: repro merge {member.join_id}",
        )


def _request(original: Record, plan: Plan, place: Workspace, site: Site, options: Options) -> Request:
    moves = _moves(place, site)
    request = Request(
        argv=_command(plan, site, moves),
        working_directory=place.working_directory,
        environment=_environment(plan, site, moves, options.pass_variables),
        replay_of=plan.run_id,
        root=place.root,
        code_paths=place.code_paths(plan),
        entropy=place.entropy,
        determinism=plan.determinism,
        facts=_facts(plan, site, (*place.mirrors, *moves), options),
        tracing=options.tracing or recorded(original),
        trace=not options.in_haste,
        lock_timeout_seconds=0.0 if options.in_haste else 600.0,
        excerpt=options.excerpt,
        stdout_fd=options.output_fd,
        stderr_fd=options.output_fd,
        start=site.start,
    )
    met = options.meeting
    if met is None:
        return request
    return replace(
        request,
        argv=met.argv(request.argv),
        environment=met.environment(request.environment),
        facts=(*request.facts, *met.facts()),
    )


def _moves(place: Workspace, site: Site) -> tuple[Move, ...]:
    """Merge what moved; where the environment lies in the tree, the executor knows better."""
    table = {move.recorded: move for move in (*place.moves, *site.moves)}
    return tuple(table.values())


def _command(plan: Plan, site: Site, moves: tuple[Move, ...]) -> tuple[str, ...]:
    """Return the command with its paths relocated; a relative one of a program in the environment becomes absolute."""
    if not plan.argv:
        raise AlteredError(f"run {plan.run_id} records no command")
    program, *rest = plan.argv
    if "/" in program and not program.startswith("/"):
        recorded = os.path.normpath("/".join((_text(plan.root), _text(plan.working_directory), program)))
        moved = relocate(recorded, site.moves)
        inside = any(recorded.startswith(f"{move.recorded}/") for move in site.moves)
        program = moved if inside or moved != recorded else program
    else:
        program = relocate(program, moves)
    return (program, *(relocate(item, moves) for item in rest))


def _text(encoded: str) -> str:
    return os.fsdecode(decode_path(encoded))


def _environment(plan: Plan, site: Site, moves: tuple[Move, ...], passed: tuple[str, ...]) -> dict[str, str]:
    """Return the whole environment of the command: little is inherited, since what was not recorded must not matter."""
    found = {name: os.environ[name] for name in (*INHERITED, *passed) if name in os.environ}
    found.update((name, relocate(value, moves)) for name, value in plan.variables)
    for name, value in site.environment.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = value
    for name, first in (("PATH", site.path), ("PYTHONPATH", site.python_path)):
        if first:
            found[name] = os.pathsep.join([*first, *([found[name]] if found.get(name) else [])])
    return found


def _facts(plan: Plan, site: Site, moves: tuple[Move, ...], options: Options) -> tuple[Fact, ...]:
    known = {
        "executor": options.executor,
        "plan": plan.digest,
        "path_map": path_map(moves),
        "python_path": json.dumps([storable(path) for path in site.python_path], ensure_ascii=False),
        "isolation": json.dumps(site.isolation, ensure_ascii=False),
        "conditions": json.dumps([c.sentence for c in plan.conditions if c.matters], ensure_ascii=False),
        "changed_data": json.dumps([found.sentence for found in plan.mismatches], ensure_ascii=False),
        "passed_variables": json.dumps(options.pass_variables),
    }
    facts = (Fact(topic="replay", name=name, value=value, source="observed") for name, value in known.items())
    return (*facts, *site.facts)


def _refuse_poor_environment(original: Record, repeated: Recorded, plan: Plan) -> None:
    """Blame nobody for a replay that failed where the original did not, if its environment was incomplete."""
    lacking = [c.name.removeprefix("package ") for c in plan.conditions if c in plan.lacking and c.matters]
    if lacking and original.run.status == "completed" and repeated.record.run.status == "failed":
        raise InconclusiveError(
            f"the replay {repeated.run_id} failed, and its environment lacked {', '.join(lacking)}: "
            "this says nothing about the run",
            hint=HOST_HINT,
        )
