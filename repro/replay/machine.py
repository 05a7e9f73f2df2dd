"""What this machine offers a replay, observed once, so that the plan can stay pure."""

from __future__ import annotations

import os
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

_CAPTURES: Final = (("environment", "beside"), ("hardware", "alongside"), ("system", "alongside"))
"""Captures that describe a machine where no process runs yet, and the moment at which they do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The facts of this machine that a plan is made with."""

    interpreters: tuple[Interpreter, ...] = ()
    """Of the recorded minor version; the one to prefer comes first."""
    facts: tuple[Fact, ...] = ()
    """Topics `hardware` and `environment`, as the recorder sees this machine here and now."""


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
        facts=_facts(record, store, progress),
    )


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


def _facts(record: Record, store: Store, progress: Callable[[str], None]) -> tuple[Fact, ...]:
    context = capture.Context(
        argv=record.run.argv,
        working_directory=Path.cwd(),
        root=Path.cwd(),
        environment=dict(os.environ),
        objects=store.objects,
        cache=store.cache,
        home=store.root,
        progress=progress,
    )
    found: list[Fact] = []
    for name, moment in _CAPTURES:
        found += getattr(plugs.load(capture, name), moment)(context).facts
    return tuple(found)
