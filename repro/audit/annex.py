"""The tables of a report's annex: what was recorded, side by side where there is a replay."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from repro.audit import whoran
from repro.audit.diff import Diff
from repro.audit.divergence import MetricComparison
from repro.audit.models import model_rows
from repro.audit.report import Check, Table
from repro.audit.tabulate import NONE, table
from repro.audit.underneath import software
from repro.audit.verdict import Verdict
from repro.evidence.integrity import Integrity
from repro.evidence.model import DataFile, Record


def tables(
    original: Integrity,
    replay: Integrity | None,
    verdict: Verdict | None,
    compared: Diff | None,
    checks: Iterable[Check],
) -> tuple[Table, ...]:
    """Return every table that has a row, in the order of the report."""
    records = [
        examined.record for examined in (original, replay) if examined is not None and examined.record is not None
    ]
    found = [
        _checks(checks),
        *([_metrics(verdict), _outputs(verdict)] if verdict else ()),
        *([_differences(compared)] if compared else ()),
        *(_of_records(records) if records else ()),
        _digests(original, replay),
    ]
    return tuple(one for one in found if one.rows)


def _checks(checks: Iterable[Check]) -> Table:
    words = {"passed": "passed", "failed": "failed", "undetermined": "could not be determined"}
    rows = ((check.name, words[check.outcome], check.detail) for check in checks)
    return table(
        "Checks", "Each procedure that was performed, and its factual outcome.", "Check, Outcome, Detail", rows
    )


def _metrics(verdict: Verdict) -> Table:
    note = (
        "Bits are hexadecimal, in the type the number had in the run. ulp: units in the last place between the two. "
        "A learning rate is recorded when it changes."
    )
    heads = (
        "Metric, Process:code, Type, Equal steps:number, First differing step:number, Record:number, Replay:number, "
        "Bits of the record:code, Bits of the replay:code, ulp:number, Largest difference:number"
    )
    return table("Metrics, bit by bit", note, heads, map(_metric_row, verdict.metrics))


def _metric_row(metric: MetricComparison) -> tuple[str, ...]:
    first = metric.first
    steps = f"{metric.equal_steps:,} of {metric.compared_steps + metric.missing_steps:,}"
    head = (metric.name, metric.process_key, ", ".join(metric.dtypes), steps)
    if first is None:
        return (*head, "none", NONE, NONE, NONE, NONE, NONE, "0" if metric.compared_steps else NONE)
    ulps = NONE if first.ulps is None else f"{first.ulps:,}"
    largest = "not finite" if metric.largest_difference is None else f"{metric.largest_difference!r}"
    values = (first.left_decimal, first.right_decimal, first.left_bits, first.right_bits)
    return (*head, f"{first.step:,}", *values, ulps, largest)


def _outputs(verdict: Verdict) -> Table:
    rows = ((o.path, o.library, o.state, o.left_sha256 or NONE, o.right_sha256 or NONE) for o in verdict.outputs)
    note = "Files that the run left behind. Those written by torch are checkpoints, and those whose tensors were told."
    return table("Outputs", note, "Path:code, Written by, Comparison, Record:digest, Replay:digest", rows)


def _differences(compared: Diff) -> Table:
    rows = ((d.section, d.name, d.left or NONE, d.right or NONE, d.note) for d in compared.differences)
    note = " ".join(
        ("Scratch paths, times and run ids differ by construction and are left out.", *compared.not_compared)
    )
    return table(
        "Differences between record and replay", note, "Section, Name:code, Record:code, Replay:code, Note", rows
    )


def _of_records(records: list[Record]) -> Iterator[Table]:
    record = records[0]
    yield from _of_data(record)
    if len(records) == 1:
        yield table(
            "Outputs",
            "Files that the run left behind.",
            "Path:code, Bytes:number, Changed at, Digest:digest",
            (_data_row(row) for row in record.data_files if row.role == "output" and row.category in ("data", "code")),
        )
    yield _file_changes(record)
    if len(records) > 1:
        yield table("How it was replayed", "", "Fact, Value:code", _facts_of_replay(records[1]))
    yield _side_by_side("Environment", "", records, {"environment", "randomness"})
    yield _side_by_side(
        "Determinism",
        "What was asked of numeric libraries and who changed it; operations that have no deterministic implementation.",
        records,
        {"determinism"},
    )
    yield _side_by_side("Hardware", "", records, {"hardware"})
    yield _side_by_side(
        "Variables", "Environment variables on the allow-list; others are kept by name alone.", records, {"variable"}
    )
    yield table(
        "Distributions",
        "Installed for the recorded interpreter.",
        "Name:code, Version:code, Origin",
        ((row.name, row.version, row.origin) for row in record.packages),
    )
    yield from software(record)
    yield from _of_record(record)
    yield _gaps(records)


def _facts_of_replay(replay: Record) -> Iterator[tuple[str, str]]:
    return ((fact.name, fact.value) for fact in replay.facts if fact.topic == "replay")


def _of_data(record: Record) -> Iterator[Table]:
    yield table(
        "Datasets",
        "Files that belong together. The digest is over the sorted list of their paths and digests.",
        "Name:code, Kind, Files:number, Bytes:number, Digest:digest, Reference:code",
        (
            (row.name, row.kind, f"{row.file_count:,}", f"{row.size_bytes:,}", row.digest, row.reference or NONE)
            for row in record.datasets
        ),
    )
    yield table(
        "Data that were read",
        "Digests are of the whole content, as it was when the run first read it. Seen by: the agent inside Python, the "
        "kernel's filter around all processes, both; or declared by the user and not seen to be read.",
        "Path:code, Bytes:number, Changed at, Digest:digest, Dataset:code, Seen by",
        (
            (*_data_row(row), row.dataset or NONE, row.seen_by)
            for row in record.data_files
            if row.role == "input" and row.category == "data"
        ),
    )


def _file_changes(record: Record) -> Table:
    return table(
        "Files renamed, linked or removed",
        "In the order of time, as the kernel saw it.",
        "What happened, Path:code, New name:code, Process:code",
        ((row.action, row.path, row.target or NONE, row.process_key) for row in record.file_changes),
    )


def _data_row(row: DataFile) -> tuple[str, ...]:
    size = NONE if row.size_bytes is None else f"{row.size_bytes:,}"
    return (row.path, size, row.modified_at or NONE, row.digest or "not hashed")


def _side_by_side(title: str, note: str, records: list[Record], topics: set[str]) -> Table:
    columns = [{f.name: f.value for f in record.facts if f.topic in topics} for record in records]
    names = sorted({name for column in columns for name in column})
    rows = ((name, *(column.get(name, NONE) for column in columns)) for name in names)
    heads = "Name, Record:code, Replay:code" if len(records) > 1 else "Name, Record:code"
    return table(title, note, heads, rows)


def _of_record(record: Record) -> Iterator[Table]:
    yield from whoran.tables(record)
    yield table(
        "Models",
        "What was trained, as it was before its first step; the digest is over structure and values.",
        "Process:code, Steps of, Told, Class:code, Size, Digest:digest",
        model_rows(record),
    )
    yield table(
        "Seeds",
        "Calls that seeded a generator.",
        "Function:code, Argument:code, Called from:code, Process:code",
        ((row.function, row.argument, row.site, row.process_key) for row in record.seeds),
    )
    yield table(
        "Entropy",
        "What unseeded generators started from; a replay puts it back.",
        "Stream:code, Draw:number, Called from:code, Process:code",
        ((row.stream, str(row.ordinal), row.site, row.process_key) for row in record.entropy),
    )
    yield table(
        "Settings that bear on the bits",
        "As they stood at the first step.",
        "Setting:code, Value:code, Process:code",
        ((row.name, row.value, row.process_key) for row in record.settings if row.moment == "first-step"),
    )
    yield table(
        "Code",
        "The code tree before the command started.",
        "Path:code, State, Bytes:number, SHA-256:digest",
        ((row.path, row.state, f"{row.size_bytes:,}", row.sha256) for row in record.code_files),
    )


def _gaps(records: list[Record]) -> Table:
    names = ("record", "replay")
    rows = ((names[i], g.topic, g.subject, g.reason) for i, record in enumerate(records) for g in record.gaps)
    return table("Gaps", "What should have been seen and was not.", "Run, Topic, Subject:code, Reason", rows)


def _digests(original: Integrity, replay: Integrity | None) -> Table:
    rows = [row for examined in (original, replay) if examined for row in _signed(examined)]
    note = "What each signed statement lists: compare them with the files themselves."
    return table("Verification: all signed digests", note, "Run:code, What:code, SHA-256:digest", rows)


def _signed(examined: Integrity) -> Iterator[tuple[str, str, str]]:
    statement = examined.statement or {}
    for subject in statement.get("subject", ()):
        yield examined.run_id, subject["name"], f"sha256:{subject['digest']['sha256']}"
    predicate = statement.get("predicate", {})
    for name, about in predicate.get("tables", {}).items():
        yield examined.run_id, f"table {name}, {about['rows']} rows", about["sha256"]
    for digest in predicate.get("objects", ()):
        name = digest.removeprefix("sha256:")
        yield examined.run_id, f"objects/{name[:2]}/{name[2:]}", digest
