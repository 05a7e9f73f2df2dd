"""The report as plain text: page one and the tables that decide, for a terminal, a mail or a ticket."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from textwrap import wrap
from typing import Final

from repro.audit.report import Light, Report, Subject, Table, Trace
from repro.audit.visible import visible
from repro.audit.wording import counted, size

SUFFIX = ".txt"

_WIDTH: Final = 100
_DETAILS: Final = 12
"""Of a finding, and sentences about what was not seen; report.json has more."""
_TABLES: Final = frozenset({"Checks", "Metrics, bit by bit", "Outputs", "Differences between record and replay"})
"""The others are in the other formats."""


def render(report: Report) -> bytes:
    """Return the report as UTF-8 text, at most 100 characters wide where words allow."""
    return "".join(f"{visible(line)}\n" for line in _lines(report)).encode("utf-8")


def _lines(report: Report) -> Iterator[str]:
    yield f"Audit report {report.report_id}, {report.reported_at} (UTC), repro {report.tool_version}"
    yield from _subject("Record", report.subject)
    if report.replay is not None:
        yield from _subject("Replay", report.replay)
    for light in report.lights:
        yield from _light(light)
    yield from _what_went_in(report)
    yield from _heading("Findings that need a person")
    for finding in report.findings:
        yield from _item(f"{finding.title}.", "! " if finding.level == "act" else "- ")
        for detail in finding.details[:_DETAILS]:
            yield from _item(detail, "    ")
        if len(finding.details) > _DETAILS:
            yield f"    and {len(finding.details) - _DETAILS:,} more"
    if not report.findings:
        yield "none"
    counts = report.counts
    yield ""
    yield f"Checks: {counts.passed} passed, {counts.failed} failed, {counts.undetermined} could not be determined"
    yield from _heading("What this report does not say")
    for sentence in (*report.not_said, *report.gaps[:_DETAILS]):
        yield from _item(sentence, "- ")
    if len(report.gaps) > _DETAILS:
        yield f"- and {len(report.gaps) - _DETAILS:,} more gaps"
    yield from _heading("How to check it yourself")
    for number, step in enumerate(report.steps, start=1):
        yield from _item(f"{step.title}. {step.text}", f"{number}. ")
        yield from (f"      {command}" for command in step.commands)
    yield from _step_by_step(report.trace)
    for table in report.tables:
        if table.title in _TABLES:
            yield from _table(table)


def _what_went_in(report: Report) -> Iterator[str]:
    yield from _heading("What went in")
    for which, subject in (("", report.subject), ("Of the replay: ", report.replay)):
        if subject is not None:
            found = subject.lineage
            yield from _item(f"{which}lineage {found.status}, watched by {found.layers}. {found.sentence}")
            for why in found.why[:4]:
                yield from _item(why, "  ")
    for source in report.sources:
        about = f"{source.kind}, {counted(source.file_count, 'file')}, {size(source.size_bytes)}, {source.digest}"
        yield from _item(f"{source.name}: {about}{f', {source.reference}' if source.reference else ''}", "- ")
    if report.sources_note:
        yield from _item(report.sources_note, "- ")


def _step_by_step(trace: Trace | None) -> Iterator[str]:
    if trace is None:
        return
    yield from _heading("Training, step by step")
    yield from _item(trace.sentence)
    for name, text in trace.facts:
        yield from _item(f"{name}: {text}", "  ")
    for row in trace.anchors:
        rank = "" if row.rank is None else f", rank {row.rank}"
        first = "" if row.first_difference is None else f"; first different step {row.first_difference:,}"
        steps = f"{row.equal_steps:,} of {row.compared_steps:,} compared steps equal"
        traced = f"{row.original_steps:,} traced in the record, {row.replay_steps:,} in the replay"
        yield from _item(f"{row.anchor} of {row.process_key}{rank}: {steps} ({traced}){first}", "- ")
    if trace.anchors_left_out:
        yield f"- and {trace.anchors_left_out:,} more"
    for note in trace.notes:
        yield from _item(note, "- ")


def _heading(text: str) -> Iterator[str]:
    yield ""
    yield text
    yield "-" * len(text)


def _item(text: str, mark: str = "") -> Iterator[str]:
    """Yield text wrapped behind a mark; made visible first, for wrapping would swallow tabs and line ends."""
    lines = wrap(visible(text), _WIDTH - len(mark), break_on_hyphens=False) or [""]
    yield mark + lines[0]
    yield from (" " * len(mark) + line for line in lines[1:])


def _subject(which: str, subject: Subject) -> Iterator[str]:
    yield ""
    yield from _item(f"{which} {subject.run_id}: {shlex.join(subject.command)}")
    yield from _item(f"started {subject.started_at}, ran {subject.wall_seconds} s, {subject.outcome}", "  ")
    if subject.energy:
        yield from _item(f"energy {subject.energy}", "  ")
    yield f"  manifest {subject.manifest_sha256}"
    for keyid in (*subject.signed_by, *subject.signed_by_unknown):
        yield from _item(f"signed by {keyid}", "  ")


def _light(light: Light) -> Iterator[str]:
    yield ""
    yield from _item(f"{light.name}: {light.word}. {light.sentence}")
    for why in light.why:
        yield from _item(why, "  ")


def _table(table: Table) -> Iterator[str]:
    yield from _heading(table.title)
    rows = [tuple(map(visible, row)) for row in (tuple(column.name for column in table.columns), *table.rows)]
    widths = [min(40, max(len(row[i]) for row in rows)) for i in range(len(table.columns))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    if table.rows_left_out:
        yield f"and {table.rows_left_out:,} more rows"
