from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import struct
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from repro.evidence import manifest, model, schema, tables
from repro.evidence.model import Record


def test_keys_are_those_of_the_ddl() -> None:
    said = re.findall(r"^-- Key: (.+)\.\nCREATE TABLE (\w+)", schema.ddl(model.SCHEMA_VERSION), re.MULTILINE)
    assert tables.KEYS | {"manifest": ("schema_version",)} == {name: tuple(key.split(", ")) for key, name in said}


def test_a_key_that_comes_twice_is_named(record: Record) -> None:
    for table in tables.tables():
        rows = table.sorted(tables.rows_of(record, table))
        assert table.first_twice(rows) is None
        assert f"the table {table.name} has two rows" in str(table.first_twice(table.sorted([*rows, rows[0]])))


def test_tables_are_those_of_the_model() -> None:
    assert list(model.TABLES) == [table.name for table in tables.tables()]
    assert list(model.columns(Record)) == [table.field for table in tables.tables()]
    run = tables.tables()[0]
    assert ("VARCHAR", True) == (run.columns[1].sql_type, run.columns[1].nullable)
    assert ("VARCHAR[]", False) == (run.columns[2].sql_type, run.columns[2].nullable)


def test_a_digest_does_not_depend_on_the_order_of_rows(record: Record) -> None:
    turned = dataclasses.replace(record, metrics=record.metrics[::-1], facts=record.facts[::-1])
    assert tables.digests(record) == tables.digests(turned)


@pytest.mark.parametrize("table", tables.tables()[1:], ids=lambda table: table.name)
def test_a_digest_depends_on_every_cell(record: Record, table: tables.Table) -> None:
    rows = tables.rows_of(record, table)
    seen = {tables.digest(table, rows), tables.digest(table, rows[1:])}
    changed: dict[str, Callable[[object], object]] = {
        "VARCHAR": lambda cell: f"{cell}+",
        "VARCHAR[]": lambda cell: (*cell, ""),  # type: ignore[misc]
        "BIGINT": lambda cell: (cell or 0) + 1,  # type: ignore[operator]
        "DOUBLE": lambda cell: -cell,  # type: ignore[operator]
        "BOOLEAN": lambda cell: not cell,
    }
    for column in table.columns:
        cell = changed[column.sql_type](getattr(rows[0], column.name))
        seen.add(tables.digest(table, (dataclasses.replace(rows[0], **{column.name: cell}), *rows[1:])))
    assert 2 + len(table.columns) == len(seen)


def test_a_third_party_recomputes_every_digest_from_sql(record: Record, tmp_path: Path) -> None:
    """What the docstring says, done by somebody who has the file, a SQL client and no code of ours."""
    path = tmp_path / "m.duckdb"
    manifest.write(record, path)
    cell: dict[str, Callable[[object], object]] = {
        "BIGINT": str,
        "DOUBLE": lambda value: struct.pack(">d", value).hex(),
    }
    found = {}
    with duckdb.connect(str(path), read_only=True) as connection:
        for name, key in tables.KEYS.items():
            lines = ""
            columns = connection.execute(f"SELECT column_name, column_type FROM (DESCRIBE {name})").fetchall()
            for column, sql_type in columns:
                cells = connection.execute(f"SELECT {column} FROM {name} ORDER BY {', '.join(key)}").fetchall()
                encode = cell.get(sql_type, lambda value: value)
                array = [None if value is None else encode(value) for (value,) in cells]
                lines += f"{column}\n{sql_type}\n{json.dumps(array, ensure_ascii=False, separators=(',', ':'))}\n"
            found[name] = f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"
    assert tables.digests(record) == found


def test_no_float_may_be_missing() -> None:
    """They are written together, by their bits."""
    doubles = [column for table in tables.tables() for column in table.columns if column.sql_type == "DOUBLE"]
    assert [False] * 7 == [column.nullable for column in doubles]


@pytest.mark.parametrize("count", [1, 4095, 4096, 4097, 10_000])
def test_a_digest_does_not_depend_on_how_a_column_is_cut(record: Record, count: int) -> None:
    table = next(table for table in tables.tables() if table.name == "metric")
    rows = [dataclasses.replace(record.metrics[0], step=step, dtype=f"d{step // 4096}") for step in range(count)]
    lines = ""
    for name, sql_type, cells in [
        ("process_key", "VARCHAR", ["main"] * count),
        ("name", "VARCHAR", ["loss"] * count),
        ("step", "BIGINT", [str(step) for step in range(count)]),
        ("value", "DOUBLE", [struct.pack(">d", rows[0].value).hex()] * count),
        ("dtype", "VARCHAR", [f"d{step // 4096}" for step in range(count)]),
        ("at_seconds", "DOUBLE", ["0" * 16] * count),
    ]:
        lines += f"{name}\n{sql_type}\n{json.dumps(cells, separators=(',', ':'))}\n"
    assert f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}" == tables.digest(table, rows)


def test_rows_are_made_of_columns() -> None:
    rows = model.from_columns(model.Tolerance, 2, (["a", "b"], [0.5, 1.0]))
    assert [model.Tolerance(metric="a", absolute=0.5), model.Tolerance(metric="b", absolute=1.0)] == rows
    assert [] == model.from_columns(model.Tolerance, 0, ([], []))


def test_bits() -> None:
    assert ["8000000000000000", "3ff0000000000000"] == [tables.float_bits(value) for value in (-0.0, 1.0)]
