r"""The manifest's tables as data: columns, types, keys, and a digest of their content.

The digest of a table survives any re-export, and anybody can recompute it from any SQL client:

1. Take the rows in the order of the key (text by its UTF-8 bytes, integers by value).
2. For each column, in the order of the DDL, write three lines, each ended by a line feed: its name; its SQL type; its
   cells as one JSON array, canonical by RFC 8785. A VARCHAR is a JSON string, a BIGINT a JSON string with its decimal
   digits, a BOOLEAN `true` or `false`, a VARCHAR[] an array of strings, and a DOUBLE a string with the 16 lower-case
   hexadecimal digits of its big-endian IEEE 754 bits. NULL is `null`.
3. The digest is the SHA-256 of these lines, columns one after the other, written `sha256:<hex>`.
"""

from __future__ import annotations

import hashlib
import json
import struct
import sys
import types
import typing
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice, pairwise
from operator import attrgetter, eq, le
from typing import Any, Final, Literal

from repro.evidence import model
from repro.evidence.points import Points, Same

_PIECE_CELLS: Final = 4096

KEYS: Final[dict[str, tuple[str, ...]]] = {
    "run": ("run_id",),
    "process": ("process_key",),
    "fact": ("topic", "name"),
    "gap": ("topic", "subject", "reason"),
    "code_file": ("path",),
    "package": ("name", "location"),
    "package_change": ("path",),
    "system_package": ("manager", "name", "architecture"),
    "shared_object": ("path",),
    "data_file": ("path", "role"),
    "dataset": ("name",),
    "file_change": ("ordinal",),
    "program": ("ordinal",),
    "seed": ("process_key", "function", "ordinal"),
    "entropy": ("process_key", "stream", "ordinal"),
    "generator_state": ("process_key", "moment", "generator"),
    "setting": ("process_key", "moment", "name"),
    "metric": ("process_key", "name", "step"),
    "traced_tensor": ("process_key", "anchor", "step", "ordinal"),
    "fingerprint": ("process_key", "anchor", "step", "place"),
    "hyperparameter": ("process_key", "source", "name", "ordinal"),
    "model": ("process_key", "ordinal"),
    "model_module": ("process_key", "model", "place"),
    "model_tensor": ("process_key", "model", "place"),
    "checkpoint": ("process_key", "ordinal"),
    "checkpoint_tensor": ("process_key", "checkpoint", "place"),
    "checkpoint_state": ("process_key", "checkpoint", "name"),
    "continuation": ("process_key", "checkpoint"),
    "operation": ("process_key", "anchor", "step", "place"),
    "tolerance": ("metric",),
}
"""The key of each table, as the DDL's comments say; a test holds the two together."""

_SQL_TYPES: Final[dict[object, str]] = {
    str: "VARCHAR",
    int: "BIGINT",
    float: "DOUBLE",
    bool: "BOOLEAN",
    tuple[str, ...]: "VARCHAR[]",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table."""

    name: str
    sql_type: str
    nullable: bool

    @property
    def is_list(self) -> bool:
        """Whether a cell is a list of texts."""
        return self.sql_type.endswith("[]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table of the manifest."""

    name: str
    field: str
    """The field of `Record` with its rows."""
    row_class: type
    columns: tuple[Column, ...]
    key: tuple[str, ...]

    def sorted(self, rows: Iterable[Any]) -> Sequence[Any]:
        """Return the rows in the order of the key, which nearly all of them have already."""
        if isinstance(rows, Points):
            return rows
        found, key = list(rows), attrgetter(*self.key)
        keys = list(map(key, found))
        return found if all(map(le, keys, islice(keys, 1, None))) else sorted(found, key=key)

    def first_twice(self, ordered: Sequence[Any]) -> str | None:
        """Say which key comes twice in ordered rows, if any does: two rows of one key have no order to hash."""
        if isinstance(ordered, Points):
            return None
        last = list(map(attrgetter(self.key[-1]), ordered))
        if not any(map(eq, last, islice(last, 1, None))):  # the other columns of the key need no look
            return None
        for before, after in pairwise(map(attrgetter(*self.key), ordered)):
            if before == after:
                return f"the table {self.name} has two rows with the key {after!r}"
        return None


@cache
def tables() -> tuple[Table, ...]:
    """Return every table, in the order of `Record`'s fields."""
    names = model.columns(model.Record)
    return tuple(_table(name, field) for name, field in zip(model.TABLES, names, strict=True))


def _table(name: str, field: str) -> Table:
    row_class = model.TABLES[name]
    hints = typing.get_type_hints(row_class)
    described = tuple(_column(column, hints[column]) for column in model.columns(row_class))
    return Table(name=name, field=field, row_class=row_class, columns=described, key=KEYS[name])


def _column(name: str, hint: Any) -> Column:
    options = set(typing.get_args(hint)) if isinstance(hint, types.UnionType) else {hint}
    nullable = types.NoneType in options
    (plain,) = options - {types.NoneType}
    sql_type = "VARCHAR" if typing.get_origin(plain) is Literal else _SQL_TYPES[plain]
    return Column(name=name, sql_type=sql_type, nullable=nullable)


def rows_of(record: model.Record, table: Table) -> Sequence[Any]:
    """Return a record's rows of one table."""
    rows = getattr(record, table.field)
    if table.name == "run":
        return (rows,)
    return rows if isinstance(rows, Points) else tuple(rows)


def cells(rows: Sequence[Any], column: str, most: int = _PIECE_CELLS) -> Iterator[Sequence[Any] | Same]:
    """Yield the cells of one column in order, in pieces that are cut at the same places for each column."""
    if isinstance(rows, Points):
        yield from rows.cells(column, most)
        return
    cell = attrgetter(column)
    for start in range(0, len(rows), most):
        yield list(map(cell, rows[start : start + most]))


def digest(table: Table, rows: Iterable[Any]) -> str:
    """Return the digest of a table's content, as the module's docstring defines it."""
    ordered = table.sorted(rows)
    hasher = hashlib.sha256()
    for column in table.columns:
        hasher.update(f"{column.name}\n{column.sql_type}\n[".encode())
        comma = b""
        for piece in cells(ordered, column.name):  # the text of a whole column may be as large as the manifest
            hasher.update(comma + _json(column, piece).encode())
            comma = b","
        hasher.update(b"]\n")
    return f"sha256:{hasher.hexdigest()}"


def is_constant(column: Column, values: Sequence[Any] | Same) -> bool:
    """Say whether all cells of a column are one; lists, and floats with their two zeros, are not looked at."""
    if isinstance(values, Same):
        return True
    if not values or column.is_list or column.sql_type == "DOUBLE":
        return False
    return values.count(values[0]) == len(values)


def _json(column: Column, values: Sequence[Any] | Same) -> str:
    """Return the cells of a column as canonical JSON, without the brackets around them."""
    if isinstance(values, Same):
        return ",".join([_json(column, [values.value])] * len(values))
    if len(values) > 1 and is_constant(column, values):
        return ",".join([_json(column, values[:1])] * len(values))
    if column.sql_type in _MANY and (isinstance(values, (array, range)) or None not in values):
        return f'"{_MANY[column.sql_type](values)}"'
    return json.dumps(_cells(column, values), ensure_ascii=False, separators=(",", ":"))[1:-1]


def _bits_of_many(values: Sequence[float]) -> str:
    return bits(values).replace(",", '","')


def _digits_of_many(values: Sequence[int]) -> str:
    return '","'.join(map(str, values))


_MANY: Final[dict[str, Callable[[Sequence[Any]], str]]] = {"DOUBLE": _bits_of_many, "BIGINT": _digits_of_many}
"""How cells of one type are written together: a quarter of the time that one after the other takes."""


def digests(record: model.Record) -> dict[str, str]:
    """Return the digest of each table of a record."""
    return {table.name: digest(table, rows_of(record, table)) for table in tables()}


def _cells(column: Column, values: Sequence[Any]) -> Sequence[Any]:
    encode: Callable[[Any], str]
    match column.sql_type:
        case "DOUBLE":
            encode = float_bits
        case "BIGINT":
            encode = str
        case _:
            return values
    return [None if value is None else encode(value) for value in values]


def bits(values: Sequence[float]) -> str:
    """Return `float_bits` of all, with commas between them."""
    cells = array("d", values)
    if sys.byteorder == "little":
        cells.byteswap()
    return cells.tobytes().hex(",", 8)


def float_bits(value: float) -> str:
    """Return the 16 hexadecimal digits of a float's big-endian IEEE 754 bits."""
    return struct.pack(">d", value).hex()
