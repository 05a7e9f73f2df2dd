"""Rows of a file of numbers: each a dictionary of names to numbers and texts. Bounded in all that a file may hold.

A number keeps the bits of its text: the nearest float64, as Python reads it. An integer stays one, a truth value too.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

Cell = int | float | str
"""A number, a truth value, or a text. What is neither has no cell."""
Row = dict[str, Cell]

MOST_BYTES: Final = 16 * 1024 * 1024
"""Of a file, once it is decompressed."""
MOST_ROWS: Final = 100_000
MOST_COLUMNS: Final = 256
MOST_DEPTH: Final = 16
LONGEST_TEXT: Final = 200
"""Characters of a name or a text; longer ones have no cell."""

_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+(\.[0-9]*)?|(\.[0-9]+))([eE][+-]?[0-9]+)?")
_NOT_FINITE: Final = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_DELIMITERS: Final = (",", "\t", ";")
_UNNAMED: Final = re.compile(r"(?:Unnamed: [0-9]+)?")
"""What heads the column of an index that pandas writes."""


class NotRead(Exception):
    """Why a file was passed over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows that belong together."""

    rows: tuple[Row, ...]
    broken: int = 0
    """Lines that could not be read."""


def read(name: str, content: bytes, kept_bytes: int = 0, *, finished: bool = True) -> tuple[Table, ...]:
    """Return the tables in a file.

    Args:
        name: Its name, whose ending says what it is: `.csv`, `.tsv`, `.jsonl`, `.ndjson` or `.json`, then maybe `.gz`.
        content: Its bytes.
        kept_bytes: How many of them stood there before the run: rows in them are not the run's.
        finished: Whether its writer ended in good order; else a last line without an end may be half of one.

    Raises:
        NotRead: It is none of these, or too large.
    """
    lowered = name.lower()
    if lowered.endswith(".gz"):
        if kept_bytes:
            raise NotRead("it is compressed, and was there before the run")
        lowered, content = lowered[:-3], _decompressed(content)
    if len(content) > MOST_BYTES:
        raise NotRead(f"it is larger than {MOST_BYTES >> 20} MiB")
    text = _text(content)
    earlier_lines = content[:kept_bytes].count(b"\n")
    if lowered.endswith(".json"):
        tables = _of_document(text)
    elif lowered.endswith((".jsonl", ".ndjson")):
        tables = (_of_lines(text, earlier_lines),)
    else:
        tables = (_of_values(text if finished else text[: text.rfind("\n") + 1], earlier_lines),)
    for table in tables:
        _check_size(table.rows)
    return tables


def _decompressed(content: bytes) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            return file.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise NotRead("it cannot be decompressed") from error


def _text(content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise NotRead("it is no text in UTF-8")
    return text


def _check_size(rows: tuple[Row, ...]) -> None:
    if len(rows) > MOST_ROWS:
        raise NotRead(f"it has more than {MOST_ROWS:,} rows")
    columns: set[str] = set()
    for row in rows:
        columns.update(row)
    if len(columns) > MOST_COLUMNS:
        raise NotRead(f"it has more than {MOST_COLUMNS} columns")


# JSON


def _parsed(text: str) -> Any:
    """Return a JSON value.

    Raises:
        NotRead: It is none, or nested or long beyond what Python reads.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotRead("it is not valid JSON") from error


def _of_lines(text: str, earlier_lines: int) -> Table:
    """Read an object a line. A last line without an end may be half of one: its writer was killed."""
    lines = text.split("\n")
    rows: list[Row] = []
    broken = 0
    for number, line in enumerate(lines):
        if not line.strip() or number < earlier_lines:
            continue
        try:
            value = _parsed(line)
        except NotRead:
            value = None if number < len(lines) - 1 else {}
        if isinstance(value, dict):
            rows.append(_row(value))
        else:
            broken += 1
        _stop_early(rows, broken)
    return Table(rows=tuple(filter(None, rows)), broken=broken)


def _stop_early(rows: list[Row], broken: int) -> None:
    """Stop at what is no table of numbers, before all of it is read.

    Raises:
        NotRead: It is none.
    """
    if broken and broken > 10 * (1 + len(rows)):
        raise NotRead("its lines are not JSON objects")
    if len(rows) > MOST_ROWS:
        raise NotRead(f"it has more than {MOST_ROWS:,} rows")


def _of_document(text: str) -> tuple[Table, ...]:
    """Read one JSON value: an object of numbers, of lists of numbers, or of lists of objects; or such a list."""
    value = _parsed(text)
    lists: dict[str, list[Any]] = {}
    if isinstance(value, list):
        lists[""] = value
        alone: Row = {}
    elif isinstance(value, dict):
        alone = _row(value, lists)
    else:
        raise NotRead("it is neither a JSON object nor a list")
    tables = [Table(rows=(alone,))] if alone else []
    columns: dict[int, dict[str, list[Any]]] = {}
    for name, items in lists.items():
        if items and all(isinstance(item, dict) for item in items):
            tables.append(Table(rows=tuple(_row(item, prefix=f"{name}." if name else "") for item in items)))
        elif name:
            columns.setdefault(len(items), {})[name] = items
    tables += [Table(rows=tuple(_transposed(length, named))) for length, named in columns.items()]
    return tuple(table for table in tables if any(table.rows))


def _transposed(length: int, columns: dict[str, list[Any]]) -> Iterator[Row]:
    """Yield the rows of columns: what Keras and many scripts write as their history."""
    for number in range(min(length, MOST_ROWS + 1)):
        cells = ((name, _cell(items[number])) for name, items in columns.items())
        yield {name: cell for name, cell in cells if cell is not None and not isinstance(cell, str)}


def _row(value: dict[str, Any], lists: dict[str, list[Any]] | None = None, prefix: str = "", depth: int = 0) -> Row:
    """Return the cells of an object; names of nested ones are joined by dots.

    Args:
        value: The object.
        lists: Where to put its lists, by name; by default they are passed over.
        prefix: Stands before each name.
        depth: Of the object.
    """
    row: Row = {}
    for key, member in value.items():
        name = f"{prefix}{key}"
        if len(name) > LONGEST_TEXT or len(row) > MOST_COLUMNS:
            continue
        if isinstance(member, dict):
            row |= _row(member, lists, f"{name}.", depth + 1) if depth < MOST_DEPTH else {}
        elif isinstance(member, list):
            if lists is not None:
                lists[name] = member
        elif (cell := _cell(member)) is not None:
            row[name] = cell
    return row


def _cell(value: Any) -> Cell | None:
    if isinstance(value, str):
        return value if len(value) <= LONGEST_TEXT else None
    return value if isinstance(value, (int, float)) else None


# delimited values


def _of_values(text: str, earlier_lines: int) -> Table:
    """Read a table with a head. Lines before it that begin with `#` are comments, or the last of them is the head."""
    lines = text.splitlines(keepends=True)
    skipped, head = _head(lines)
    delimiter = _delimiter(head)
    heads = next(_parted([head], delimiter))[1]
    names = _names(heads)
    rows: list[Row] = []
    broken = 0
    for line, cells in _parted(lines[skipped:], delimiter):
        if skipped + line <= earlier_lines or not any(cells) or cells == heads:
            continue  # a head again: another writer has begun anew in the same file
        if len(cells) != len(names):
            broken += 1
            continue
        found = ((name, _value(cell)) for name, cell in zip(names, cells, strict=True) if name)
        rows.append({name: value for name, value in found if value is not None})
        _stop_early(rows, 0)
    return Table(rows=tuple(rows), broken=broken)


def _parted(lines: list[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the values of each row, after the number of its last line, from 1."""
    reader = csv.reader(lines, delimiter=delimiter)
    try:
        for cells in reader:
            yield reader.line_num, cells
    except csv.Error as error:
        raise NotRead("its lines cannot be parted into values") from error


def _head(lines: list[str]) -> tuple[int, str]:
    """Return how many lines come before the first row, and the line with the names.

    Raises:
        NotRead: It has none: a name is no number.
    """
    comments = 0
    while comments < len(lines) and lines[comments].lstrip().startswith("#"):
        comments += 1
    if comments < len(lines) and _is_head(lines[comments]):
        return comments + 1, lines[comments]
    if comments and _is_head(named := lines[comments - 1].lstrip("# ")):
        return comments, named  # as numpy.savetxt writes it
    raise NotRead("it has no line with names")


def _is_head(line: str) -> bool:
    cells = next(_parted([line], _delimiter(line)), (0, []))[1]
    return bool(cells) and len(cells) <= MOST_COLUMNS and any(cells) and all(_number(cell) is None for cell in cells)


def _delimiter(head: str) -> str:
    return max(_DELIMITERS, key=head.count)


def _names(cells: list[str]) -> list[str]:
    """Return the names of columns: stripped, without those of an index, and with `#2` where one comes again."""
    names: list[str] = []
    for cell in cells:
        name = cell.strip()
        if _UNNAMED.fullmatch(name) or len(name) > LONGEST_TEXT:
            name = ""
        number, chosen = 1, name
        while chosen and chosen in names:
            number += 1
            chosen = f"{name}#{number}"
        names.append(chosen)
    return names


def _value(text: str) -> Cell | None:
    number = _number(text)
    stripped = text.strip()
    return number if number is not None else stripped if 0 < len(stripped) <= LONGEST_TEXT else None


def _number(text: str) -> int | float | None:
    stripped = text.strip()
    found = _NUMBER.fullmatch(stripped)
    if found is None:
        return float(stripped) if _NOT_FINITE.fullmatch(stripped) else None
    if any(part is not None for part in found.groups()):
        return float(stripped)
    return int(stripped) if len(stripped) <= LONGEST_TEXT else None
