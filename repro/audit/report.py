"""The report: plain data that every format renders. `repro.audit.publish` writes and signs what they make of it."""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass
from typing import Any, Final, Literal

from repro.errors import AlteredError
from repro.evidence import canonical, schema

SCHEMA_VERSION: Final = 1

Tone = Literal["good", "bad", "open"]
Outcome = Literal["passed", "failed", "undetermined"]
Kind = Literal["text", "code", "number", "digest"]
LineageStatus = Literal["complete", "partial", "none", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Light:
    """One of the three lights."""

    name: Literal["Record", "Replay", "Policy"]
    word: str
    tone: Tone
    """`good`, `bad`, or `open` where nothing can be said."""
    sentence: str
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that a person has to look at."""

    level: Literal["act", "look"]
    """`act`: without an answer the report is no basis for a decision. `look`: worth knowing before one."""
    title: str
    details: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One procedure that was performed, and its factual outcome."""

    name: str
    outcome: Outcome
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many checks came out how."""

    passed: int
    failed: int
    undetermined: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """How completely a run's files were watched."""

    status: LineageStatus
    """`complete`: every opened file is listed. `partial`: files may be missing. `none`: nobody watched."""
    tone: Tone
    layers: str
    """Which layers watched, such as `agent, kernel (seccomp)`."""
    sentence: str
    why: tuple[str, ...]
    """What keeps it from being complete, one sentence each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A dataset that the run read."""

    name: str
    kind: str
    file_count: int
    size_bytes: int
    digest: str
    reference: str | None
    """What a pointer says that it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A run that was examined."""

    run_id: str
    replay_of: str | None
    command: tuple[str, ...]
    root: str
    working_directory: str
    started_at: str
    ended_at: str
    wall_seconds: str
    cpu_seconds: str
    peak_memory_bytes: int
    energy: str
    """Such as `1,234 J (rapl)`; empty where it was neither measured nor estimated."""
    lineage: Lineage
    outcome: str
    manifest_sha256: str
    statement_sha256: str
    """Of the statement inside the envelope."""
    signed_by: tuple[str, ...]
    """Key ids of trusted keys."""
    signed_by_unknown: tuple[str, ...]
    """Key ids, as claimed, of keys that the reporting machine does not trust."""
    recorder_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One metric of one process on both sides, thinned out for drawing."""

    process_key: str
    name: str
    dtype: str
    original: tuple[tuple[int, str], ...]
    """Steps and values; a value is the shortest decimal that gives the same float64."""
    replay: tuple[tuple[int, str], ...]
    original_steps: int
    """How many there are; `original` may hold fewer."""
    replay_steps: int
    first_difference: int | None
    step_function: bool
    last_step: int
    """The last step of any metric of the process: a step function is drawn up to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedAnchor:
    """How the steps of one anchor of one process compare."""

    process_key: str
    rank: int | None
    anchor: str
    """What the steps are counted of: `optimizer.0`, …, or `backward`."""
    original_steps: int
    """Steps that were traced."""
    replay_steps: int
    compared_steps: int
    equal_steps: int
    first_difference: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """The training traces of record and replay, step by step."""

    tone: Tone
    sentence: str
    """Whether the runs part, and where."""
    facts: tuple[tuple[str, str], ...]
    """About the first difference: a heading and a text each; empty where there is none."""
    notes: tuple[str, ...]
    """What decides nothing and is worth knowing."""
    anchors: tuple[TracedAnchor, ...]
    anchors_left_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """The head of a table's column."""

    name: str
    kind: Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of the annex."""

    title: str
    note: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    rows_left_out: int
    """Rows beyond the table's limit; the manifest has them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One way to check the report without trusting it."""

    title: str
    text: str
    commands: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that a report says. There are no floats in it: numbers that JSON would bend are strings."""

    schema_version: int
    report_id: str
    """The run's id, and the beginning of the digest of all the rest: two reports of one id say the same."""
    reported_at: str
    tool_version: str
    subject: Subject
    replay: Subject | None
    lights: tuple[Light, ...]
    """Record, Replay, Policy; never merged."""
    findings: tuple[Finding, ...]
    """Worst first."""
    sources: tuple[Source, ...]
    """The largest datasets of the record, for page one."""
    sources_note: str
    """What was read besides; empty if nothing was."""
    checks: tuple[Check, ...]
    counts: Counts
    not_said: tuple[str, ...]
    gaps: tuple[str, ...]
    steps: tuple[Step, ...]
    curves: tuple[Curve, ...]
    curves_left_out: int
    trace: Trace | None
    """`None` where no run was traced, or there is nothing to compare with."""
    tables: tuple[Table, ...]


def document(report: Report) -> dict[str, Any]:
    """Return a report as plain data: what `report.json` holds and schemas/report-1.json describes."""
    plain: dict[str, Any] = _plain(dataclasses.asdict(report))
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else canonical.storable(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def identified(report: Report) -> Report:
    """Return a report with its number: the run's id and eight digits of the digest of all the rest."""
    content = canonical.digest(canonical.dumps({**document(report), "report_id": ""}))
    return dataclasses.replace(report, report_id=f"{report.subject.run_id}-{content.removeprefix('sha256:')[:8]}")


def parse(data: bytes) -> Report:
    """Read `report.json`.

    Raises:
        AlteredError: It is no report of ours, or its number does not fit what it says.
    """
    plain = canonical.loads(data)
    schema.validate(plain, "report-1")
    report: Report = _typed(Report, plain)
    if identified(report).report_id != report.report_id:
        raise AlteredError(f"report.json was edited: its number {report.report_id!r} does not fit its content")
    return report


def _typed(hint: Any, value: Any) -> Any:
    """Build the dataclasses and tuples that a type hint names from plain data that the schema has passed."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        hints = typing.get_type_hints(hint)
        return hint(**{field.name: _typed(hints[field.name], value[field.name]) for field in dataclasses.fields(hint)})
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        kinds = arguments if arguments[-1] is not Ellipsis else (arguments[0],) * len(value)
        return tuple(_typed(kind, item) for kind, item in zip(kinds, value, strict=True))
    if isinstance(hint, types.UnionType):
        return None if value is None else _typed(arguments[0], value)
    return value
