"""The manifest: one DuckDB file per run, written once, read only from a private, checked copy.

A DuckDB file from a stranger is a program: views and macros read and write files, and a write-ahead log beside an
untouched file is replayed even when it is opened read-only. So `read` opens nothing but a copy of its own, cut off from
everything else, and refuses whatever is not a plain table of ours.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, Final

import duckdb

from repro.errors import AlteredError, ExecutionError, InconclusiveError
from repro.evidence import schema, tables
from repro.evidence.model import SCHEMA_VERSION, Metric, Record, from_columns
from repro.evidence.plain import open_plain
from repro.evidence.points import Gathered, Points, Same
from repro.evidence.tables import Column, Table

STORAGE: Final = "STORAGE_VERSION 'v1.2.0'"
"""Any DuckDB since 1.2 can read the file."""
_BYTES_OF_A_POINT: Final = {16384: 25, 65536: 17, 262144: 10}
"""By the size of a block. Each table takes one block at least, but DuckDB compresses numbers in large ones only."""
MAX_BYTES: Final = 8 * 1024**3
_READ_SETTINGS: Final[dict[str, str | bool | int | float | list[str]]] = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "allow_unsigned_extensions": "false",
    "memory_limit": "4GB",
    "max_temp_directory_size": "0B",
    "lock_configuration": "true",
}
_CHUNK_BYTES: Final = 1024 * 1024
_BATCH_ROWS: Final = 20_000
"""Rows of an INSERT: one statement for a million rows takes twice as long."""
_BATCH_CHARACTERS: Final = 64 * 1024 * 1024
"""Text of an INSERT, about: DuckDB holds it three times."""
_SAMPLED_ROWS: Final = 64
_FEW_ROWS: Final = 5_000
"""Fewer are not compressed: to try what would be best takes 10 ms, and saves a fifteenth of some 250 kB."""
_ready: Final[list[duckdb.DuckDBPyConnection]] = []
_SIDECARS: Final = (".wal", ".tmp", ".wal.checkpoint", ".wal.recovery", ".lock")
_CATALOGUE: Final = """
    SELECT 'table', table_name, sql FROM duckdb_tables() WHERE NOT internal
    UNION ALL SELECT 'view', view_name, sql FROM duckdb_views() WHERE NOT internal
    UNION ALL SELECT 'macro', function_name, NULL FROM duckdb_functions() WHERE NOT internal
    UNION ALL SELECT 'sequence', sequence_name, NULL FROM duckdb_sequences()
    UNION ALL SELECT 'index', index_name, sql FROM duckdb_indexes()
    UNION ALL SELECT 'type', type_name, NULL FROM duckdb_types() WHERE NOT internal
    UNION ALL SELECT 'schema', schema_name, NULL FROM duckdb_schemas() WHERE NOT internal AND schema_name <> 'main'
"""
"""All that a database holds besides rows. The SQL of a table has its columns, types, constraints, defaults."""


def write(record: Record, path: Path) -> None:
    """Write a manifest: a new file that appears complete under its name, mode 0444.

    Raises:
        ExecutionError: The file exists already, cannot be written, or DuckDB refuses a row.
    """
    if path.exists():
        raise ExecutionError(f"{path} exists already: a manifest is written once")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        _fill(record, temporary)
        _publish(temporary, path)
    except duckdb.Error as error:
        raise ExecutionError(f"cannot write the manifest {path}: {_first_line(error)}") from error
    except OSError as error:
        raise ExecutionError(f"cannot write the manifest {path}: {error.strerror}") from error
    finally:
        for leftover in (temporary, *_sidecars(temporary)):
            leftover.unlink(missing_ok=True)


def read(path: Path, *, expected_digest: str | None = None) -> Record:
    """Return the record in a manifest.

    The bytes are copied into a private directory and hashed on the way; only that copy is opened.

    Args:
        path: The DuckDB file.
        expected_digest: `sha256:…` of the file, as its statement says; `None` where there is no statement.

    Raises:
        InconclusiveError: There is no such file, or a newer version of repro wrote it.
        AlteredError: Another digest, a sidecar, a symbolic link, damage, or anything in it but the expected tables.
    """
    with private_copy(path) as (copy, found):
        if expected_digest not in (None, found):
            raise AlteredError(f"{path.name} has the digest {found}, the statement says {expected_digest}")
        return read_copy(copy)


@contextmanager
def private_copy(path: Path) -> Iterator[tuple[Path, str]]:
    """Copy a manifest into a directory that nobody else can enter; yield the copy's path and the digest of its bytes.

    Raises:
        InconclusiveError: There is no such file.
        AlteredError: A sidecar, a symbolic link, or not a plain file.
    """
    refuse_sidecars(path)
    with tempfile.TemporaryDirectory(prefix="repro-") as private:
        copy = Path(private) / path.name
        yield copy, _copy(path, copy)


def read_copy(copy: Path, *, only: Collection[str] = ()) -> Record:
    """Return the record in a manifest that `private_copy` made.

    Args:
        copy: The copy.
        only: Names of tables to read besides `run`; the others are left empty. All of them where none is named.

    Raises:
        InconclusiveError: A newer version of repro wrote it.
        AlteredError: Damage, or anything in it but the expected tables.
    """
    try:
        with duckdb.connect(str(copy), read_only=True, config=_READ_SETTINGS) as connection:
            _refuse_unexpected(connection, copy.name)
            return _record(connection, only)
    except (duckdb.Error, ValueError) as error:
        raise AlteredError(f"{copy.name} cannot be read as a manifest: {_first_line(error)}") from None


def refuse_sidecars(path: Path) -> None:
    """Refuse a manifest with a file beside it that DuckDB would replay or recover from.

    Raises:
        AlteredError: There is one; the message names it.
    """
    for sidecar in _sidecars(path):
        if os.path.lexists(sidecar):
            raise AlteredError(
                f"{sidecar.name} lies beside {path.name}: DuckDB would read it as part of the manifest",
                hint="find out who put it there; a sealed run never has one",
            )


def _sidecars(path: Path) -> tuple[Path, ...]:
    return tuple(path.with_name(path.name + suffix) for suffix in _SIDECARS)


def warm_up() -> None:
    """Open the connection that the next manifest is written through (20 ms) before it is needed."""
    with contextlib.suppress(duckdb.Error):
        _ready.append(duckdb.connect())


@contextmanager
def _connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection to a database in memory; it is kept for the next manifest, as closing it takes 5 ms."""
    connection = _ready.pop() if _ready else duckdb.connect()
    try:
        yield connection
    except BaseException:
        connection.close()
        raise
    _ready.append(connection)


def _fill(record: Record, path: Path) -> None:
    rows_by_table = {table: table.sorted(tables.rows_of(record, table)) for table in tables.tables()}
    count = sum(map(len, rows_by_table.values()))
    block = _block_size(sum(map(bool, rows_by_table.values())), len(record.metrics))
    with _connection() as connection:
        connection.execute(f"PRAGMA force_compression='{'uncompressed' if count < _FEW_ROWS else 'auto'}'")
        connection.execute(f"ATTACH '{_quoted(path)}' AS manifest ({STORAGE}, BLOCK_SIZE {block})")
        connection.execute("USE manifest")
        connection.execute("BEGIN")  # one transaction: the DDL alone would pay a commit for each table
        connection.execute(schema.ddl(SCHEMA_VERSION))
        for table, rows in rows_by_table.items():
            if twice := table.first_twice(rows):
                raise duckdb.ConstraintException(twice)
            _insert(connection, table, rows)
        connection.execute("COMMIT")
        connection.execute("CHECKPOINT manifest")
        connection.execute("USE memory")
        connection.execute("DETACH manifest")
    if any(os.path.lexists(sidecar) for sidecar in _sidecars(path)):
        raise ExecutionError(f"DuckDB left a sidecar beside {path}")


def _block_size(filled: int, points: int) -> int:
    """Return the size of a block with which a file is smallest, of so many tables with rows and so many points."""
    return min(_BYTES_OF_A_POINT, key=lambda block: block * filled + _BYTES_OF_A_POINT[block] * points)


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _insert(connection: duckdb.DuckDBPyConnection, table: Table, rows: Sequence[Any]) -> None:
    most = _rows_of_a_batch(table, rows)
    for batch in zip(*(tables.cells(rows, column.name, most) for column in table.columns), strict=True):
        _insert_batch(connection, table, batch)


def _rows_of_a_batch(table: Table, rows: Sequence[Any]) -> int:
    """Return how many rows go into one INSERT: fewer of those that hold long texts, as fingerprints do."""
    if isinstance(rows, Points):
        return _BATCH_ROWS
    sample = rows[:: max(1, len(rows) // _SAMPLED_ROWS)]
    texts = [attrgetter(column.name) for column in table.columns if column.sql_type == "VARCHAR"]
    widest = max((sum(len(text(row) or "") for text in texts) for row in sample), default=0)
    return max(1, min(_BATCH_ROWS, _BATCH_CHARACTERS // max(1, widest)))


def _insert_batch(connection: duckdb.DuckDBPyConnection, table: Table, columns: Sequence[Sequence[Any] | Same]) -> None:
    terms: list[str] = []
    cells: list[Any] = []
    for i, (column, values) in enumerate(zip(table.columns, columns, strict=True), 1):
        if isinstance(values, Same) or tables.is_constant(column, values):  # a list costs 0.6 µs a cell
            terms.append(f"${i}::{column.sql_type}")
            cells.append(values.value if isinstance(values, Same) else values[0])
        elif _counts_up(column, values):  # as the steps of a metric do
            terms.append(f"unnest(range(${i}::BIGINT, ${i}::BIGINT + {len(values)}))")
            cells.append(values[0])
        elif column.sql_type == "DOUBLE":  # by their bits: in a list, DuckDB before 2.0 makes NULL of NaN
            terms.append(f"unhex(unnest(string_split(${i}, ',')))::BIT::DOUBLE")
            cells.append(tables.bits(values))
        else:
            terms.append(f"unnest(${i}::{column.sql_type}[])")
            cells.append([None if cell is None else list(cell) for cell in values] if column.is_list else list(values))
    connection.execute(f'INSERT INTO "{table.name}" SELECT {", ".join(terms)}', cells)


def _counts_up(column: Column, values: Sequence[Any]) -> bool:
    if column.sql_type != "BIGINT" or isinstance(values, range):
        return column.sql_type == "BIGINT"
    first = values[0]
    return first is not None and list(values) == list(range(first, first + len(values)))


def _publish(temporary: Path, path: Path) -> None:
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
        os.fchmod(descriptor, 0o444)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy(source: Path, target: Path) -> str:
    """Copy a plain file of bounded size; return the digest of the bytes that were copied."""
    hasher = hashlib.sha256()
    try:
        file = open_plain(source, source.name)
    except FileNotFoundError:
        raise InconclusiveError(f"{source.name} is missing", hint="restore it from a backup of the store") from None
    with file, target.open("xb") as copy:
        if os.fstat(file.fileno()).st_size > MAX_BYTES:
            raise AlteredError(f"{source.name} is larger than {MAX_BYTES} bytes")
        while chunk := file.read(_CHUNK_BYTES):
            hasher.update(chunk)
            copy.write(chunk)
    return f"sha256:{hasher.hexdigest()}"


def _refuse_unexpected(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Refuse a database whose catalogue is not what our DDL makes."""
    found = set(connection.execute(_CATALOGUE).fetchall())
    if any((kind, table) == ("table", "manifest") for kind, table, _ in found):
        _refuse_version(connection, name)
    strange = sorted(f"{kind} {text!r}" for kind, text, _ in found ^ _expected_catalogue())
    if strange:
        raise AlteredError(f"{name} does not hold the tables of a manifest; look at its {strange[0]}")


@cache
def _expected_catalogue() -> frozenset[tuple[str, str, str | None]]:
    with duckdb.connect() as model:
        model.execute(schema.ddl(SCHEMA_VERSION))
        return frozenset(model.execute(_CATALOGUE).fetchall())


def _refuse_version(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    versions = connection.execute("SELECT schema_version FROM main.manifest LIMIT 2").fetchall()
    if versions != [(SCHEMA_VERSION,)]:
        found = ", ".join(str(version) for (version,) in versions)[:60] or "none"
        message = f"{name} has the schema version {found}, this repro reads version {SCHEMA_VERSION}"
        raise InconclusiveError(message, hint="it needs a newer repro")


def _record(connection: duckdb.DuckDBPyConnection, only: Collection[str]) -> Record:
    chosen = [table for table in tables.tables() if not only or table.name == "run" or table.name in only]
    rows = {table.field: _rows(connection, table) for table in chosen}
    if len(rows["run"]) != 1:
        raise AlteredError(f"a manifest has exactly one run, this one has {len(rows['run'])}")
    return Record(**{**rows, "run": rows["run"][0]})


def _points(connection: duckdb.DuckDBPyConnection, table: Table) -> Points:
    names = ", ".join(f'"{column.name}"' for column in table.columns)
    found = connection.execute(f'SELECT {names} FROM main."{table.name}"')  # noqa: S608 - our own names
    gathered = Gathered()
    while batch := found.fetchmany(_BATCH_ROWS):
        gathered.add_columns(list(zip(*batch, strict=True)))
    points, again = gathered.points()
    if again:
        twice = f"the table {table.name} has two rows with the key {again[0]!r}"
        raise AlteredError(f"the manifest is not as repro writes it: {twice}")
    return points


def _rows(connection: duckdb.DuckDBPyConnection, table: Table) -> Sequence[Any]:
    if table.row_class is Metric:
        return _points(connection, table)
    names = ", ".join(f'"{column.name}"' for column in table.columns)
    found = connection.execute(f'SELECT {names} FROM main."{table.name}"')  # noqa: S608 - our own names
    rows: list[Any] = []
    while batch := found.fetchmany(_BATCH_ROWS):
        rows += from_columns(table.row_class, len(batch), _columns(table, batch))
    ordered = table.sorted(rows)  # as they were written; sorting would take DuckDB twice the memory of all texts
    if twice := table.first_twice(ordered):
        raise AlteredError(f"the manifest is not as repro writes it: {twice}")
    return tuple(ordered)


def _columns(table: Table, batch: Sequence[tuple[Any, ...]]) -> Iterator[Iterable[Any]]:
    for i, column in enumerate(table.columns):
        cells = map(itemgetter(i), batch)
        yield (tuple(cell) if isinstance(cell, list) else cell for cell in cells) if column.is_list else cells


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]
