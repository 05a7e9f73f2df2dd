"""A replay of the first steps alone, and the part of its original that it can be held against.

Such a replay ends each process that trains after its N-th step (`repro replay --steps N`), and each process so ended
says so. What the original did before that moment must be there in the replay; what it did later is not looked at,
unless the replay did it too. Outputs and the end of the command are no part of the first steps.

The moment, in a process that was ended, is when its original told the last traced field of the first N steps. In a
process that ended by itself, such as a launcher, what the replay has decides how far the original is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from repro.audit.wording import outcome
from repro.evidence.model import Record

STOPPED: Final = "replay.stopped_after"
"""The setting by which a process says that it was ended, and after how many steps."""

_FROM_OUTSIDE: Final = frozenset({"SIGINT", "SIGTERM", "SIGKILL", "SIGHUP", "SIGQUIT"})
"""Signals that say something about the machine or its user, and nothing about the training."""

_FIRST: Final = ("optimizer.0", "backward")
"""The anchors whose steps are counted: the first one of these that a process has."""


def cut_short(original: Record | None, replay: Record) -> tuple[str, ...]:
    """Say which side was cut short from outside, and by what. Of an original of which no end is wanted: `None`."""
    phrases = []
    if original and original.run.status in ("killed", "interrupted"):
        phrases.append(f"the original was {outcome(original)}")
    if replay.run.status == "interrupted" or replay.run.signal in _FROM_OUTSIDE:
        phrases.append(f"the replay was {outcome(replay)}")
    return tuple(phrases)


def first_steps(steps: int, within: str) -> str:
    """Say that the first steps are equal.

    Args:
        steps: How many.
        within: How they are equal only within limits; empty where they are to the bit.
    """
    number = f"The first {steps} steps are" if steps > 1 else "The first step is"
    rest = "what comes after was not run again"
    return f"{number} equal, bit for bit; {rest}." if not within else f"{number} within the limits; {rest}. {within}"


def steps_asked(replay: Record) -> int | None:
    """Return how many steps a replay was to run, if any process was ended for that; `None` if it is a whole one."""
    asked = replay.fact("replay", "steps")
    stopped = any(row.name == STOPPED for row in replay.settings)
    return int(asked) if stopped and asked is not None and asked.isascii() and asked.isdigit() else None


def prefix(original: Record, replay: Record, steps: int) -> Record:
    """Return the part of an original that a replay of its first steps must repeat.

    Args:
        original: The whole run.
        replay: A replay of its first steps.
        steps: How many.
    """
    ends = _moments(original, replay, steps)
    last_metric = _last(replay.metrics, "name")
    last_step = _last(replay.fingerprints, "anchor")
    last_model = _last(replay.models, "anchor")
    ordinals = {(m.process_key, m.ordinal) for m in original.models if _is_reached(m, "anchor", last_model, {})}
    reached = {(c.process_key, c.ordinal) for c in replay.checkpoints}
    return replace(
        without_outputs(original),
        metrics=tuple(row for row in original.metrics if _is_reached(row, "name", last_metric, ends)),
        fingerprints=tuple(row for row in original.fingerprints if _is_reached(row, "anchor", last_step, ends)),
        models=tuple(row for row in original.models if (row.process_key, row.ordinal) in ordinals),
        model_modules=tuple(row for row in original.model_modules if (row.process_key, row.model) in ordinals),
        model_tensors=tuple(row for row in original.model_tensors if (row.process_key, row.model) in ordinals),
        checkpoints=tuple(row for row in original.checkpoints if (row.process_key, row.ordinal) in reached),
        checkpoint_tensors=tuple(
            row for row in original.checkpoint_tensors if (row.process_key, row.checkpoint) in reached
        ),
        checkpoint_states=tuple(
            row for row in original.checkpoint_states if (row.process_key, row.checkpoint) in reached
        ),
    )


def without_outputs(record: Record) -> Record:
    """Return a record without the files that the run wrote."""
    return replace(record, data_files=tuple(row for row in record.data_files if row.role != "output"))


def _moments(original: Record, replay: Record, steps: int) -> dict[str, float]:
    """Return up to when each ended process is looked at, in the seconds of the original."""
    ended = {row.process_key for row in replay.settings if row.name == STOPPED}
    found: dict[tuple[str, str], float] = {}
    for row in original.fingerprints:
        if row.process_key in ended and row.anchor in _FIRST and row.step < steps:
            key = row.process_key, row.anchor
            found[key] = max(found.get(key, row.at_seconds), row.at_seconds)
    moments = {}
    for process_key in ended:
        for anchor in _FIRST:
            if (process_key, anchor) in found:
                moments[process_key] = found[process_key, anchor]
                break
    return moments


def _last(rows: Sequence[Any], column: str) -> dict[tuple[str, str], int]:
    """Return the highest step of each series of each process."""
    found: dict[tuple[str, str], int] = {}
    for row in rows:
        key = row.process_key, getattr(row, column)
        found[key] = max(found.get(key, row.step), row.step)
    return found


def _is_reached(row: Any, column: str, last: dict[tuple[str, str], int], moments: dict[str, float]) -> bool:
    """Say whether the replay went as far as a row of the original, or had to."""
    key = row.process_key, getattr(row, column)
    if key in last and row.step <= last[key]:
        return True
    moment = moments.get(row.process_key)
    return moment is not None and row.at_seconds <= moment
