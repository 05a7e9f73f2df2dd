"""Processes that were ended from outside while others went on: where they stopped says nothing about the training.

When one rank dies, the launcher ends the others wherever they happen to be, one step earlier or later each time. What
the other side told after the last step of such a process is left out of the comparison, and the verdict says so. What
both sides told is compared as ever.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from repro.evidence.model import Fingerprint, Metric, Record

FROM_OUTSIDE: Final = frozenset({"SIGTERM", "SIGKILL", "SIGINT", "SIGHUP", "SIGQUIT"})
_RATE: Final = "learning_rate."
_Series = tuple[str, str]
"""Process key, and the name of a metric or an anchor."""


@dataclass(slots=True)
class _Last:
    """How far a record goes in each series."""

    steps: dict[_Series, int] = field(default_factory=dict)
    fields: set[tuple[str, str, int, str]] = field(default_factory=set)
    """Process, anchor, step and field of what was told of each series' last step."""
    updates: dict[str, int] = field(default_factory=dict)
    """Process to the last step of an optimizer that it told of."""


def ended_from_outside(record: Record) -> dict[str, str]:
    """Return the processes that a signal from outside ended, and its name."""
    found = {process.process_key: process.signal for process in record.processes}
    return {key: name for key, name in found.items() if name in FROM_OUTSIDE}


def aligned(original: Record, replay: Record) -> tuple[Record, Record]:
    """Return both records up to where the one or the other's processes were ended from outside."""
    return _up_to(original, replay), _up_to(replay, original)


def sentences(original: Record, replay: Record) -> tuple[str, ...]:
    """Say which processes are compared only as far as both went."""
    sides = (("original", ended_from_outside(original)), ("replay", ended_from_outside(replay)))
    told = {process.process_key for process in original.processes} & {p.process_key for p in replay.processes}
    measured = {row.process_key for record in (original, replay) for row in record.fingerprints}
    return tuple(
        f"{key} was ended by {name} in the {side}: it is compared as far as both went."
        for side, ended in sides
        for key, name in sorted(ended.items())
        if key in told & measured
    )


def _up_to(record: Record, other: Record) -> Record:
    """Return a record without what comes after the other's processes that were ended from outside."""
    ended = ended_from_outside(other).keys() & {process.process_key for process in record.processes}
    if not ended:
        return record
    last = _last(other, ended)
    return replace(
        record,
        metrics=tuple(row for row in record.metrics if row.process_key not in ended or _is_within(row, last)),
        fingerprints=tuple(r for r in record.fingerprints if r.process_key not in ended or _was_told(r, last)),
    )


def _last(record: Record, ended: Iterable[str]) -> _Last:
    last, chosen = _Last(), frozenset(ended)
    for metric in record.metrics:
        if metric.process_key in chosen:
            series = (metric.process_key, metric.name)
            last.steps[series] = max(metric.step, last.steps.get(series, 0))
            if metric.name.startswith(_RATE):
                last.updates[metric.process_key] = max(metric.step, last.updates.get(metric.process_key, 0))
    traced = [row for row in record.fingerprints if row.process_key in chosen]
    for row in traced:
        key = (row.process_key, row.anchor)
        last.steps[key] = max(row.step, last.steps.get(key, 0))
        last.updates[row.process_key] = max(row.step, last.updates.get(row.process_key, 0))
    last.fields = {
        (r.process_key, r.anchor, r.step, r.field) for r in traced if r.step == last.steps[r.process_key, r.anchor]
    }
    return last


def _is_within(row: Metric, last: _Last) -> bool:
    if row.name.startswith(_RATE):  # told when it changes
        return row.step <= last.updates.get(row.process_key, -1)
    return row.step <= last.steps.get((row.process_key, row.name), -1)


def _was_told(row: Fingerprint, last: _Last) -> bool:
    step = last.steps.get((row.process_key, row.anchor), -1)
    return row.step < step or (row.process_key, row.anchor, row.step, row.field) in last.fields
