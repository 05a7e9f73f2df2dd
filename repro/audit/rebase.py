"""See a replay with the eyes of the run that it repeats.

A replay runs in a scratch directory, in an environment of its own. Its fact `replay/path_map` lists which path prefix
of the recorded run became which of the replay: a JSON list of `[from, to]`. Here they are turned back, so that what
differs by construction is not reported as a difference. So is PYTHONPATH, to which an executor adds what its fact
`replay/python_path` lists, a JSON list: the source trees of editable installs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from repro.errors import InconclusiveError
from repro.evidence.model import TABLES, Fact, Record

_PATH_TEXT = {
    "process": ("argv", "executable"),
    "fact": ("value",),
    "gap": ("subject", "reason"),
    "code_file": ("path",),
    "package_change": ("path",),
    "shared_object": ("path",),
    "data_file": ("path", "dataset"),
    "dataset": ("name",),
    "file_change": ("path", "target"),
    "program": ("path", "argv"),
    "seed": ("site",),
    "entropy": ("site",),
    "setting": ("value",),
    "hyperparameter": ("value", "site"),
    "checkpoint": ("path",),
    "operation": ("site",),
}
"""Columns that may hold a path, by table; a prefix that is not there changes nothing.

A package's location stays: whether two installations stand at one place decides whether their RECORD files can be
compared."""


def path_map(record: Record) -> tuple[tuple[str, str], ...]:
    """Return the `(from, to)` prefixes of a replay; empty for any other run.

    Raises:
        InconclusiveError: The fact is there and cannot be read.
    """
    pairs = [pair for pair in _listed(record, "path_map") if isinstance(pair, list) and len(pair) == 2]
    return tuple((str(old), str(new)) for old, new in pairs if len(str(new)) > 1)


def replay_sentences(record: Record, name: str) -> tuple[str, ...]:
    """Return what a replay says of itself in the fact `replay/NAME`: `isolation`, `conditions`, `python_path`.

    Raises:
        InconclusiveError: The fact is there and cannot be read.
    """
    return tuple(map(str, _listed(record, name)))


def _listed(record: Record, name: str) -> list[Any]:
    """Return a fact of the topic `replay` whose value is a JSON list; empty where there is none."""
    text = record.fact("replay", name)
    try:
        found = json.loads(text or "[]")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list):
        message = f"the fact replay/{name} of run {record.run.run_id} cannot be read"
        raise InconclusiveError(message, hint="replay the original run again")
    return found


def rebase(record: Record) -> Record:
    """Return the record with the paths of the run that it repeats; any record but a replay comes back unchanged."""
    pairs = path_map(record)
    if not pairs:
        return record
    turn_back = _turning_back(pairs)
    tables: dict[str, Any] = {}
    for table, spec in zip(TABLES, fields(Record), strict=True):
        if table in _PATH_TEXT:
            rows = _without_added(record) if table == "fact" else getattr(record, spec.name)
            tables[spec.name] = tuple(_rebased(row, _PATH_TEXT[table], turn_back) for row in rows)
    run = replace(record.run, argv=tuple(map(turn_back, record.run.argv)), root=turn_back(record.run.root))
    # An environment that lay inside the tree does so again once its prefix is turned back.
    inside = f"{run.root}/"
    for name, column in (
        ("data_files", "path"),
        ("data_files", "dataset"),
        ("datasets", "name"),
        ("checkpoints", "path"),
    ):
        tables[name] = tuple(_relative(row, column, inside) for row in tables[name])
    return replace(record, run=run, **tables)


def _without_added(record: Record) -> tuple[Fact, ...]:
    """Return the facts with PYTHONPATH as the user had it."""
    added = replay_sentences(record, "python_path")
    rows: list[Fact] = []
    for fact in record.facts:
        entries = fact.value.split(":")
        if added and (fact.topic, fact.name) == ("variable", "PYTHONPATH") and tuple(entries[: len(added)]) == added:
            if rest := entries[len(added) :]:
                rows.append(replace(fact, value=":".join(rest)))
        else:
            rows.append(fact)
    return tuple(rows)


def _relative(row: Any, column: str, inside: str) -> Any:
    value = getattr(row, column)
    return replace(row, **{column: value.removeprefix(inside)}) if value and value.startswith(inside) else row


def _rebased(row: Any, names: tuple[str, ...], turn_back: Callable[[str], str]) -> Any:
    if getattr(row, "topic", None) == "replay":
        return row
    changes: dict[str, Any] = {}
    for name in names:
        value = getattr(row, name)
        if value is None:
            continue
        turned = tuple(map(turn_back, value)) if isinstance(value, tuple) else turn_back(value)
        if turned != value:
            changes[name] = turned
    return replace(row, **changes) if changes else row


def _turning_back(pairs: tuple[tuple[str, str], ...]) -> Callable[[str], str]:
    """Build a function that replaces every replay prefix, the longest first, but never half a component."""
    recorded = {new.rstrip("/"): old.rstrip("/") or "/" for old, new in pairs}
    longest_first = sorted(recorded, key=len, reverse=True)
    pattern = re.compile(rf"(?<![\w./~-])(?:{'|'.join(map(re.escape, longest_first))})(?![\w.~+-])")

    def turn_back(text: str) -> str:
        return pattern.sub(lambda found: recorded[found.group()], text)

    return turn_back
