"""Runs a plan with the recorded interpreter where it still stands: nothing is rebuilt, and the report says so."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

from repro.evidence.store import Store
from repro.record.supervise import start_local
from repro.replay.conditions import Condition
from repro.replay.executors import Site
from repro.replay.machine import Machine
from repro.replay.plan import Plan, Python
from repro.replay.relocation import Move
from repro.replay.workspace import Workspace

_NOT_ISOLATED = (
    "The replay ran in the recorded environment itself, where it stood: nothing was rebuilt.",
    "It used this machine's kernel, system libraries and drivers, and the network was not cut off.",
    "Every file that this user may read could be read.",
)
_HINT: Final = "use --executor venv, which rebuilds the environment from the lock"
_SECONDS: Final = 60
# Runs in the recorded interpreter, any Python 3: what it is, and what is installed in it, by name as in PEP 503.
_PROBE: Final = """
import json, re, sys
from importlib import metadata
found = {}
for d in metadata.distributions():
    name = d.metadata["Name"]
    if name:
        found.setdefault(re.sub("[-_.]+", "-", name).lower(), d.version)
print(json.dumps(["%d.%d.%d" % sys.version_info[:3], found]))
"""


def unavailable() -> str | None:
    """Return `None`: there is nothing to install."""
    return None


def conditions(plan: Plan, machine: Machine) -> tuple[Condition, ...]:
    """Say whether the recorded interpreter still stands, with the recorded distributions in it."""
    if plan.python is None:
        note = "no Python process was seen: the command is run with what is on PATH"
        return (
            Condition(name="environment", recorded=None, here="this machine's", effect="bitwise at risk", note=note),
        )
    found = _ask(plan.python.executable, dict(plan.variables))
    if found is None:
        note = f"the recorded interpreter {plan.python.executable} does not run any more"
        return (_stop("python", plan.python.executable, None, note),)
    version, installed = found
    if version != plan.python.version:
        note = f"{plan.python.executable} is Python {version} now; it was {plan.python.version}"
        return (_stop("python", plan.python.version, version, note),)
    same = Condition(name="python", recorded=version, here=version, effect="none")
    return (same, *_packages(plan, installed))


def prepare(plan: Plan, workspace: Workspace, store: Store, machine: Machine, progress: Callable[[str], None]) -> Site:
    """Take the recorded environment as it stands."""
    if plan.python is None:
        return Site(start=start_local, isolation=_NOT_ISOLATED)
    return Site(
        start=start_local,
        python_path=workspace.source_paths(plan) if plan.source_paths else (),
        path=(os.fspath(Path(plan.python.executable).parent),),
        moves=_stay(plan.python),
        isolation=_NOT_ISOLATED,
    )


def _stay(python: Python) -> tuple[Move, ...]:
    """Keep the environment where it is, also if it lies inside the tree, which moves."""
    return (Move(recorded=python.prefix, here=python.prefix),)


def _packages(plan: Plan, installed: dict[str, str]) -> tuple[Condition, ...]:
    recorded: dict[str, set[str]] = {}
    for package in plan.packages:  # a name may be installed at several places of the path
        recorded.setdefault(package.name, set()).add(package.version)
    different = sorted(
        name for name in recorded.keys() | installed.keys() if installed.get(name) not in recorded.get(name, ())
    )
    if not different:
        return (Condition(name="packages", recorded=str(len(recorded)), here=str(len(installed)), effect="none"),)
    pairs = [(name, _versions(recorded, name), installed.get(name, "absent")) for name in different[:5]]
    more = f"; and {len(different) - 5} more" if len(different) > 5 else ""
    shown = "; ".join(f"{name}: {there} → {here}" for name, there, here in pairs)
    note = f"the recorded environment has changed: {shown}{more}"
    there, here = (", ".join(f"{pair[0]} {pair[side]}" for pair in pairs) for side in (1, 2))
    return (_stop("packages", there, here, note),)


def _versions(recorded: dict[str, set[str]], name: str) -> str:
    return " and ".join(sorted(recorded.get(name, ()))) or "absent"


def _stop(name: str, recorded: str, here: str | None, note: str) -> Condition:
    return Condition(name=name, recorded=recorded, here=here, effect="impossible", note=note, hint=_HINT)


def _ask(executable: str, variables: dict[str, str]) -> tuple[str, dict[str, str]] | None:
    """Return version and distributions of an interpreter, under the recorded variables; `None` if it does not run."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("REPRO_", "PYTHON"))},
        **variables,
    }
    try:
        done = subprocess.run(
            [executable, "-c", _PROBE],
            env=environment,
            capture_output=True,
            timeout=_SECONDS,
            check=True,
            stdin=subprocess.DEVNULL,
        )
        version, installed = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None
    return version, installed
