"""What the statement over a run says: a pure function of the record."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any, Final

from repro.evidence import canonical, joined, tables
from repro.evidence.model import SCHEMA_VERSION, Metric, Record
from repro.evidence.objects import Objects
from repro.evidence.points import Points, points_of
from repro.evidence.tables import Table

OBJECT_FACTS: Final = (
    ("code", "diff"),
    ("environment", "conda_explicit"),
    ("environment", "lock"),
    ("environment", "pylock"),
    ("stream", "stderr_sha256"),
    ("stream", "stdout_sha256"),
)
"""Facts whose value is the digest of an object."""


def subject(name: str, digest: str) -> dict[str, Any]:
    """Return one subject of an in-toto statement."""
    return {"name": name, "digest": {"sha256": digest.removeprefix("sha256:")}}


def subjects(record: Record, manifest_digest: str) -> list[dict[str, Any]]:
    """Return what the statement is about: the manifest, and each output file as `output:<path>`."""
    outputs = sorted(
        (f"output:{file.path}", file.digest)
        for file in record.data_files
        if file.role == "output" and file.category in ("data", "code") and file.digest
    )
    return [subject("manifest.duckdb", manifest_digest), *(subject(name, digest) for name, digest in outputs)]


def predicate(record: Record, table_digests: Mapping[str, str], objects: Objects) -> dict[str, Any]:
    """Return the predicate `urn:repro:attestation:training-run:1`, described in schemas/run-statement-1.json."""
    run = record.run
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": run.run_id,
        "replay_of": run.replay_of,
        "recorder_version": run.recorder_version,
        "command": list(run.argv),
        "root": run.root,
        "working_directory": run.working_directory,
        "status": run.status,
        "exit_code": run.exit_code,
        "signal": run.signal,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "wall_seconds": repr(run.wall_seconds),
        "code": _code(record),
        "environment": _environment(record),
        "data": _data(record),
        "hardware": {fact.name: fact.value for fact in record.facts if fact.topic == "hardware"},
        "randomness": {fact.name: fact.value for fact in record.facts if fact.topic == "randomness"},
        "metrics": _metrics(record.metrics),
        "gaps": sorted((dataclasses.asdict(gap) for gap in record.gaps), key=lambda gap: tuple(gap.values())),
        "tolerances": [
            {"metric": tolerance.metric, "absolute": _number(tolerance.absolute)}
            for tolerance in sorted(record.tolerances, key=lambda tolerance: tolerance.metric)
        ],
        "tables": {
            table.name: {"rows": len(tables.rows_of(record, table)), "sha256": table_digests[table.name]}
            for table in tables.tables()
        },
        "objects": object_digests(record, objects),
        **_join(record),
    }


def object_digests(record: Record, objects: Objects) -> list[str]:
    """Return the digest of each object that a record refers to, sorted.

    Code from outside the tree is stored where it could be, so such a file counts when the store holds it.
    """
    named = {file.sha256 for file in record.code_files}
    named |= {f.value for f in record.facts if (f.topic, joined.without_node(f.name)) in OBJECT_FACTS}
    named |= {package.wheel_sha256 for package in record.packages if package.wheel_sha256}
    outside = {file.digest for file in record.data_files if (file.role, file.category) == ("input", "code")}
    held = {digest for digest in outside if digest and canonical.is_digest(digest) and objects.path(digest).exists()}
    return sorted(digest for digest in named | held if canonical.is_digest(digest))


def storable(record: Record) -> Record:
    """Return a record whose every text UTF-8 can hold: no name that a script gave its metric may lose the run."""
    changes: dict[str, Any] = {}
    for table in tables.tables():
        rows = tables.rows_of(record, table)
        if not _is_storable(table, rows):
            cleaned = tuple(_storable_row(table, row) for row in rows)
            changes[table.field] = cleaned[0] if table.name == "run" else cleaned
    return dataclasses.replace(record, **changes)


def _is_storable(table: Table, rows: Sequence[Any]) -> bool:
    return all(map(str.isascii, _texts(table, rows))) or all(
        text == canonical.storable(text) for text in _texts(table, rows)
    )


def _texts(table: Table, rows: Sequence[Any]) -> Iterator[str]:
    """Return every text of a table, column by column; of points, each once."""
    if isinstance(rows, Points):
        return rows.texts()
    described = [column for column in table.columns if column.sql_type.startswith("VARCHAR")]
    columns = [filter(None, map(attrgetter(column.name), rows)) for column in described]
    texts = (chain.from_iterable(c) if d.is_list else c for d, c in zip(described, columns, strict=True))
    return chain.from_iterable(texts)


def _storable_row(table: Table, row: Any) -> Any:
    changes: dict[str, Any] = {}
    for column in table.columns:
        value = getattr(row, column.name)
        if isinstance(value, str):
            changes[column.name] = canonical.storable(value)
        elif isinstance(value, tuple):
            changes[column.name] = tuple(map(canonical.storable, value))
    return dataclasses.replace(row, **changes)


def _join(record: Record) -> dict[str, Any]:
    """Return what a run on several nodes, or one node's part of it, belongs to; nothing for any other run."""
    join_id, nodes = record.fact(joined.TOPIC, "id"), record.fact(joined.TOPIC, "nodes")
    if join_id is None or nodes is None:
        return {}
    member = joined.membership(record)
    parts = [
        {"node": str(part.node), "run_id": part.run_id, "manifest": part.manifest_digest}
        for part in joined.named_parts(record)
    ]
    return {"join": {"id": join_id, "nodes": nodes, "node": str(member.node) if member else None, "parts": parts}}


def _code(record: Record) -> dict[str, Any]:
    dirty = record.fact("code", "dirty")
    return {
        "commit": record.fact("code", "commit"),
        "dirty": None if dirty is None else dirty == "true",
        "tree": canonical.tree_digest(record.code_files),
        "files": len(record.code_files),
    }


def _environment(record: Record) -> dict[str, Any]:
    return {
        "python": record.fact("environment", "python_version"),
        "fingerprint": record.fact("environment", "fingerprint"),
        "lock": record.fact("environment", "lock"),
        "packages": len(record.packages),
    }


def _data(record: Record) -> dict[str, Any]:
    data = [file.role for file in record.data_files if file.category == "data"]
    return {
        "inputs_digest": record.fact("data", "inputs_digest"),
        "inputs": data.count("input"),
        "outputs": data.count("output"),
    }


def _metrics(metrics: Sequence[Metric]) -> list[dict[str, Any]]:
    return [
        {
            "process_key": series.process_key,
            "name": series.name,
            "count": len(series),
            "first": _number(series.values[0]),
            "last": _number(series.values[-1]),
        }
        for series in points_of(metrics).series
    ]


def _number(value: float) -> dict[str, str]:
    """Return a float as text that JSON cannot bend: shortest decimal, and the bits."""
    return {"decimal": repr(value), "bits": tables.float_bits(value)}
