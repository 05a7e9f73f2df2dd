"""What this machine offers a replay, observed once, so that the plan can stay pure."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from repro import plugs
from repro.errors import UsageError
from repro.evidence.model import Fact, Record
from repro.evidence.store import Store
from repro.record import capture
from repro.replay.interpreters import Interpreter, discover, probe

_CORES: Final = re.compile(r"affinity|cpu_count|cpu_limit|cores")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The facts of this machine that a plan is made with."""

    interpreters: tuple[Interpreter, ...] = ()
    """Of the recorded minor version; the one to prefer comes first."""
    facts: tuple[Fact, ...] = ()
    """Topic `hardware`, as the recorder sees it here and now."""
    chosen: bool = False
    """The user named the interpreter, so that no other is looked for."""

    def has_other_cores(self, record: Record) -> bool:
        """Say whether libraries would choose another number of threads here than they did when recorded."""
        return any(_cores(f) and f not in self.facts for f in record.facts)


def observe(record: Record, store: Store, python: Path | None, *, progress: Callable[[str], None]) -> Machine:
    """Look at this machine with the eyes of the recorder.

    Args:
        record: What is to be replayed; only Pythons of its minor version are looked for.
        store: Where the recorder keeps things.
        python: The interpreter that the user wants, if any.
        progress: Called with what is going on.

    Raises:
        UsageError: `python` is no Python.
    """
    return Machine(
        interpreters=_interpreters(record, python),
        facts=_hardware(record, store, progress),
        chosen=python is not None,
    )


def _cores(fact: Fact) -> bool:
    return fact.topic == "hardware" and _CORES.search(fact.name) is not None


def _interpreters(record: Record, python: Path | None) -> tuple[Interpreter, ...]:
    if python is not None:
        found = probe(python)
        if found is None:
            raise UsageError(
                f"{python} is not a Python interpreter",
                hint="give --python the path of one, such as /usr/bin/python3.11",
            )
        return (found,)
    version = record.fact("environment", "python_version")
    return discover(version, record.fact("environment", "base_prefix")) if version else ()


def _hardware(record: Record, store: Store, progress: Callable[[str], None]) -> tuple[Fact, ...]:
    context = capture.Context(
        argv=record.run.argv,
        working_directory=Path.cwd(),
        root=Path.cwd(),
        environment=dict(os.environ),
        objects=store.objects,
        cache=store.cache,
        home=store.home,
        progress=progress,
    )
    found: tuple[Fact, ...] = plugs.load(capture, "hardware").beside(context).facts
    return found
