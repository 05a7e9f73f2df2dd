"""Runs a plan in a fresh virtual environment built from the recorded lock. Embedded: it needs no engine."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from repro.errors import ExecutionError
from repro.evidence.model import Fact
from repro.evidence.store import Store
from repro.record.supervise import start_local
from repro.replay import environment
from repro.replay.conditions import HOST_HINT, Condition
from repro.replay.executors import Site
from repro.replay.interpreters import Interpreter, choose
from repro.replay.machine import Machine
from repro.replay.plan import Plan, Python
from repro.replay.relocation import Move
from repro.replay.workspace import Workspace

_NOT_ISOLATED = (
    "The replay ran without a container: it used this machine's kernel, system libraries and drivers.",
    "The network was not cut off.",
    "Every file that this user may read could be read; data outside the tree was read where it lies.",
)


def unavailable() -> str | None:
    """Return `None`: it comes with repro."""
    return None


def conditions(plan: Plan, machine: Machine) -> tuple[Condition, ...]:
    """Say whether the recorded environment can be rebuilt here."""
    if plan.python is None:
        note = "no Python process was seen, so nothing is rebuilt: the command is run with what is on PATH"
        return (
            Condition(name="environment", recorded=None, here="this machine's", effect="bitwise at risk", note=note),
        )
    return (_interpreter(plan.python, machine), *_build(plan.python, machine), _lock(plan), *plan.lacking)


def prepare(plan: Plan, workspace: Workspace, store: Store, machine: Machine, progress: Callable[[str], None]) -> Site:
    """Build or reuse the virtual environment.

    Raises:
        ExecutionError: It cannot be built.
    """
    if plan.python is None or plan.lock is None:
        return Site(start=start_local, isolation=(*_NOT_ISOLATED, "No environment was rebuilt."))
    interpreter = choose(machine.interpreters, plan.python.version, plan.python.implementation)
    if interpreter is None:
        raise ExecutionError(f"there is no Python {plan.python.version} on this machine any more", hint=HOST_HINT)
    lock = store.objects.get(plan.lock)
    built = environment.build(lock, interpreter, store.cache / "venvs", progress=progress, objects=store.objects)
    if built.reused:
        progress(f"using the environment that was built before: {built.prefix}")
    return Site(
        start=start_local,
        path=(os.fspath(built.prefix / "bin"),),
        python_path=workspace.source_paths(plan),
        environment={
            "VIRTUAL_ENV": os.fspath(built.prefix),
            "PYTHONHOME": None,
            "CONDA_PREFIX": None,
            "CONDA_DEFAULT_ENV": None,
        },
        moves=_moves(plan.python, built.prefix),
        isolation=_NOT_ISOLATED,
        facts=_facts(built, interpreter, plan.lock),
        close=built.close,
    )


def _facts(built: environment.Built, interpreter: Interpreter, lock: str) -> tuple[Fact, ...]:
    """Say what was built; the recorder need not ask the index for a lock, as the environment came from this one."""
    known = {
        ("environment", "lock"): lock,
        ("replay", "environment"): "reused" if built.reused else "built",
        ("replay", "interpreter"): os.fspath(interpreter.executable),
        ("replay", "built_from_source"): ", ".join(built.built_from_source),
    }
    return tuple(Fact(topic=t, name=n, value=value, source="observed") for (t, n), value in known.items() if value)


def _interpreter(python: Python, machine: Machine) -> Condition:
    chosen = choose(machine.interpreters, python.version, python.implementation)
    recorded = f"{python.implementation} {python.version}"
    if chosen is None:
        minor = ".".join(python.version.split(".")[:2])
        return Condition(
            name="python",
            recorded=recorded,
            here=None,
            effect="impossible",
            note=f"the environment cannot be rebuilt: it needs {recorded}, and this machine has no Python {minor}",
            hint=f"install Python {python.version} and name it with --python, or use --executor host",
        )
    here = f"{python.implementation} {chosen.version}"
    same = chosen.version == python.version
    return Condition(
        name="python",
        recorded=recorded,
        here=here,
        effect="none" if same else "bitwise at risk",
        note=None if same else "another patch release of the same Python",
    )


def _build(python: Python, machine: Machine) -> tuple[Condition, ...]:
    chosen = choose(machine.interpreters, python.version, python.implementation)
    if chosen is None or python.build is None or chosen.version != python.version:
        return ()
    same = chosen.build == python.build
    return (
        Condition(
            name="python build",
            recorded=python.build,
            here=chosen.build,
            effect="none" if same else "bitwise at risk",
            note=None if same else "the same Python, built at another time or with another compiler",
        ),
    )


def _lock(plan: Plan) -> Condition:
    if plan.lock is None:
        note = f"the environment cannot be rebuilt: the run has no lock, as {plan.no_lock_because}"
        return Condition(
            name="lock", recorded="not resolved", here=None, effect="impossible", note=note, hint=HOST_HINT
        )
    return Condition(name="lock", recorded=plan.lock, here=plan.lock, effect="none")


def _moves(python: Python, prefix: Path) -> tuple[Move, ...]:
    """Map the recorded environment onto the new one: all of it, or, of the system's Python, its programs."""
    here = os.fspath(prefix)
    if python.prefix != python.base_prefix:
        return (Move(recorded=python.prefix, here=here),)
    bin_directory = f"{python.prefix}/bin"
    programs = sorted(path.name for path in (prefix / "bin").iterdir())
    return tuple(Move(recorded=f"{bin_directory}/{name}", here=f"{here}/bin/{name}") for name in programs)
