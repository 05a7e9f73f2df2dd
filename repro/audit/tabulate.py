"""How a table of a report's annex is made."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final

from repro.audit.report import Column, Kind, Table

NONE: Final = "—"
MAX_ROWS: Final = 500
"""Of one table: a page must open, and the manifest has them all."""
_MAX_CELL: Final = 300


def table(title: str, note: str, heads: str, rows: Iterable[tuple[str, ...]]) -> Table:
    """Make a table; heads are `Name:kind`, separated by commas."""
    remaining = iter(rows)
    cells = tuple(tuple(map(_clipped, row)) for row in islice(remaining, MAX_ROWS))
    columns = tuple(map(_column, heads.split(",")))
    return Table(title=title, note=note, columns=columns, rows=cells, rows_left_out=sum(1 for _ in remaining))


def _clipped(text: str) -> str:
    return text if len(text) <= _MAX_CELL else f"{text[: _MAX_CELL // 2]}… ({len(text):,} characters)"


def _column(head: str) -> Column:
    name, _, kind = head.strip().partition(":")
    kinds: dict[str, Kind] = {"": "text", "code": "code", "number": "number", "digest": "digest"}
    return Column(name=name, kind=kinds[kind])
