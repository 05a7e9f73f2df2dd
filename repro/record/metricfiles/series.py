"""Series of the numbers in a table: which name each has, and at which step it stands.

A column is a series. Where a column says what a row is about (`split`, `rank`, `tag` …), each of its texts has a series
of its own: `loss{split=val}`. A series takes its steps from the first of the columns `STEPS` that each of its rows has
and that only rises; else they are the numbers of its rows, from 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from repro.record.metricfiles.tables import Cell, Row

STEPS: Final = (
    *("global_step", "step", "steps", "_step", "iteration", "iterations", "iter", "num_updates", "update", "updates"),
    *("total_timesteps", "num_timesteps", "timesteps", "timestep", "batch", "batch_idx", "episode", "episodes"),
    *("round", "generation", "trial", "epoch", "epochs"),
)
"""Columns that count, the finest first. None of them is a metric."""
RANKS: Final = ("rank", "global_rank", "local_rank", "world_rank", "worker", "process")
_ALWAYS: Final = (*RANKS, "split", "phase", "mode", "stage", "subset", "partition", "fold", "tag", "metric")
_WHERE_THEY_VARY: Final = (
    *("set", "dataset", "task", "model", "metric_name", "name", "kind", "type", "event", "level", "seed", "run"),
    *("run_id", "experiment", "env"),
)
MOST_LABELS: Final = 64
"""Of one column; one with more is no label."""
_LONGEST_LABEL: Final = 60
_HIGHEST_STEP: Final = 2**63 - 1

Point = tuple[int, int | float]
"""A step, and the value as it was written: an integer and a truth value stay what they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The numbers of one name, at steps that only rise."""

    name: str
    column: str
    points: tuple[Point, ...]


def series(rows: Sequence[Row], *, shuffled: bool = False) -> tuple[Series, ...]:
    """Return the series in the rows of a table, in the order in which they begin.

    Args:
        rows: The table.
        shuffled: Whether rows of several writers lie among each other in no order that repeats; a series without steps
            of its own is then numbered by itself.
    """
    labels = label_columns(rows)
    cells: dict[tuple[str, str], list[tuple[int, int | float]]] = {}
    for number, row in enumerate(rows):
        label = _label(row, labels)
        for column, value in row.items():
            if not isinstance(value, str) and column not in labels and not is_step(column):
                cells.setdefault((column, label), []).append((number, value))
    return tuple(
        Series(name=column + label, column=column, points=_stepped(rows, found, shuffled=shuffled))
        for (column, label), found in cells.items()
    )


def is_step(column: str) -> bool:
    """Say whether a column counts."""
    return plain(column) in STEPS


def plain(column: str) -> str:
    """Return the last part of a column's name, in small letters: `epoch` of `train/Epoch`."""
    return re.split(r"[/.]", column)[-1].strip().lower()


def label_columns(rows: Iterable[Row]) -> tuple[str, ...]:
    """Return the columns that say what a row is about, in the order in which they come."""
    found: dict[str, set[Cell]] = {}
    for row in rows:
        for column, value in row.items():
            if plain(column) in _ALWAYS or plain(column) in _WHERE_THEY_VARY:
                texts = found.setdefault(column, set())
                if len(texts) <= MOST_LABELS:
                    texts.add(value)
    return tuple(column for column, texts in found.items() if _is_label(column, texts))


def _is_label(column: str, texts: set[Cell]) -> bool:
    if len(texts) > MOST_LABELS or any(isinstance(text, float) or len(str(text)) > _LONGEST_LABEL for text in texts):
        return False
    return plain(column) in _ALWAYS or len(texts) > 1


def _label(row: Row, labels: Sequence[str]) -> str:
    texts = [f"{column}={row[column]}" for column in labels if column in row]
    return f"{{{','.join(texts)}}}" if texts else ""


def _stepped(rows: Sequence[Row], found: Sequence[tuple[int, int | float]], *, shuffled: bool) -> tuple[Point, ...]:
    first = rows[found[0][0]]
    columns = sorted((column for column in first if is_step(column)), key=lambda column: STEPS.index(plain(column)))
    for column in columns:
        steps = [_step(rows[number].get(column)) for number, _ in found]
        if all(step >= 0 for step in steps) and all(a < b for a, b in pairwise(steps)):
            return tuple((step, value) for step, (_, value) in zip(steps, found, strict=True))
    if shuffled:
        return tuple((number, value) for number, (_, value) in enumerate(found))
    return tuple(found)


def _step(cell: Cell | None) -> int:
    """Return a cell as a count from 0; -1 where it is none."""
    if isinstance(cell, bool) or not isinstance(cell, (int, float)) or not 0 <= cell <= _HIGHEST_STEP or cell % 1:
        return -1
    return int(cell)
