"""Compose a report: examine the run and its replay, judge and compare them, and put what was found into words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from repro import __version__
from repro.audit import annex, attest, findings, lights
from repro.audit.curves import LIMIT, thin
from repro.audit.diff import Diff, diff
from repro.audit.divergence import MetricComparison
from repro.audit.lineage import lineage
from repro.audit.rebase import replay_sentences
from repro.audit.report import SCHEMA_VERSION, Curve, Report, Source, Step, Subject, identified
from repro.audit.trace.block import trace_block
from repro.audit.verdict import Verdict, judge
from repro.audit.wording import capital, counted, outcome
from repro.errors import AlteredError, InconclusiveError
from repro.evidence import canonical, integrity
from repro.evidence.integrity import Integrity
from repro.evidence.keys import PublicKeys
from repro.evidence.model import Gap, Metric, Record
from repro.evidence.store import RunDirectory, Store

MAX_CURVES: Final = 12
MAX_SOURCES: Final = 12

_NOT_SAID: Final = (
    "It expresses no assurance: it states what was compared, how, and what was found.",
    "It does not say that the model is accurate, fair, lawful or fit for any use.",
    "It does not say that the machine was honest: who controls a machine and its key can record something else.",
    "Times are those of the machines' own clocks; no third party has stamped them.",
    "It does not say that there were no other runs: a run that was not recorded, or not shown, leaves no trace here.",
)
_ABOUT_REPLAY: Final = "A match says that this training was repeated here, once; not that it repeats on every machine."


def report_on(directory: RunDirectory, store: Store, trusted: PublicKeys, *, reported_at: str) -> Report:
    """Report on a run and its newest sealed replay; or, given a replay, on it and its original.

    Raises:
        InconclusiveError: A newer version of repro wrote one of the runs.
        UsageError: The original of a replay is not in the store.
    """
    first, second = _pair(directory, store)
    original = integrity.examine(first, store, trusted)
    replay = integrity.examine(second, store, trusted) if second else None
    signed, attested = _signed_verdict(second, trusted)
    verdict = compared = None
    if original.record and replay and replay.record:
        verdict = judge(original.record, replay.record, changed_data=tuple(signed.get("changed_data", ())))
        compared = diff(original.record, replay.record)
        if signed and signed["verdict"] != verdict.word:
            attested = (*attested, f"It says {signed['verdict']}; judged anew from the records, it is {verdict.label}.")
    return build(original, replay, verdict, compared, attested=attested, reported_at=reported_at)


def _pair(directory: RunDirectory, store: Store) -> tuple[RunDirectory, RunDirectory | None]:
    summaries = store.runs()
    replay_of = next((run.replay_of for run in summaries if run.run_id == directory.run_id), None)
    if replay_of is not None:
        return store.find(replay_of), directory
    newest = next((run.run_id for run in summaries if run.sealed and run.replay_of == directory.run_id), None)
    return directory, store.find(newest) if newest else None


def _signed_verdict(replay: RunDirectory | None, trusted: PublicKeys) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Return what the signed verdict says, and what is wrong with it; the former is empty where it must not be used."""
    if replay is None:
        return {}, ()
    try:
        predicate, signers = attest.read_verdict(replay, trusted)
    except InconclusiveError:
        return {}, ("There is none: the verdict in this report was judged anew.",)
    except AlteredError as error:
        return {}, (error.message,)
    return predicate, () if signers else ("It is signed by a key that this machine does not know.",)


def build(
    original: Integrity,
    replay: Integrity | None,
    verdict: Verdict | None,
    compared: Diff | None,
    *,
    reported_at: str,
    attested: tuple[str, ...] = (),
) -> Report:
    """Put what was found into a report. The same arguments give the same report.

    Args:
        original: The examined run.
        replay: Its examined replay, if there is one.
        verdict: What `judge` says of the two; `None` where one could not be read.
        compared: What `diff` says of the two, likewise.
        reported_at: UTC time of the report.
        attested: What is wrong with the signed verdict, one sentence each.
    """
    performed = findings.checks(original, replay, verdict, compared)
    relation = attest.relation(original, replay) if replay else "unknown"
    curves = _curves(original.record, replay.record if replay else None, verdict)
    report = Report(
        schema_version=SCHEMA_VERSION,
        report_id="",
        reported_at=reported_at,
        tool_version=__version__,
        subject=_subject(original),
        replay=_subject(replay) if replay else None,
        lights=(lights.record_light(original), lights.replay_light(verdict, relation), lights.policy_light()),
        findings=findings.findings(original, replay, verdict, compared, attested),
        sources=_sources(original.record),
        sources_note=_sources_note(original.record),
        checks=performed,
        counts=findings.count(performed),
        not_said=(*_NOT_SAID, *_not_said_of(replay)),
        gaps=_gaps(original, replay),
        steps=_steps(original.run_id),
        curves=curves[:MAX_CURVES],
        curves_left_out=max(0, len(curves) - MAX_CURVES),
        trace=trace_block(verdict),
        tables=annex.tables(original, replay, verdict, compared, performed),
    )
    return identified(report)


def _subject(examined: Integrity) -> Subject:
    record, statement = examined.record, examined.statement
    run = record.run if record else None
    return Subject(
        run_id=examined.run_id,
        replay_of=run.replay_of if run else None,
        command=run.argv if run else (),
        root=run.root if run else "",
        working_directory=run.working_directory if run else "",
        started_at=run.started_at if run else "",
        ended_at=run.ended_at if run else "",
        wall_seconds=f"{run.wall_seconds:.1f}" if run else "",
        cpu_seconds=f"{run.cpu_seconds:.1f}" if run else "",
        peak_memory_bytes=run.peak_memory_bytes if run else 0,
        energy=_energy(record),
        lineage=lineage(record),
        outcome=outcome(record) if record else "not known: the record cannot be read",
        manifest_sha256=attest.manifest_digest(examined) if statement else "",
        statement_sha256=canonical.digest(canonical.dumps(statement)) if statement else "",
        signed_by=examined.signers,
        signed_by_unknown=examined.strangers,
        recorder_version=run.recorder_version if run else "",
    )


def _energy(record: Record | None) -> str:
    """Return the energy that the run used, and how that is known; empty where it is not."""
    joules = record.fact("hardware", "energy_joules") if record else None
    if record is None or joules is None:
        return ""
    try:
        amount = f"{float(joules):,.0f}"
    except (ValueError, OverflowError):
        amount = joules
    return f"{amount} J ({record.fact('hardware', 'energy_source') or 'source not known'})"


def _sources(record: Record | None) -> tuple[Source, ...]:
    """Return the largest datasets of a record."""
    largest = sorted(record.datasets if record else (), key=lambda row: (-row.size_bytes, row.name))
    return tuple(
        Source(
            name=row.name,
            kind=row.kind,
            file_count=row.file_count,
            size_bytes=row.size_bytes,
            digest=row.digest,
            reference=row.reference,
        )
        for row in largest[:MAX_SOURCES]
    )


def _sources_note(record: Record | None) -> str:
    """Say what was read besides the datasets of page one."""
    if record is None:
        return ""
    names = {row.name for row in record.datasets}
    rows = [row for row in record.data_files if row.role == "input" and row.category == "data"]
    alone = sum(row.dataset not in names for row in rows)
    rest = max(0, len(names) - MAX_SOURCES)
    found = [counted(rest, "smaller dataset")] if rest else []
    found += [counted(alone, "file") + (" of no dataset" if names else "")] if alone else []
    return f"{' and '.join(found)}: see the tables." if found else ""


def _not_said_of(replay: Integrity | None) -> tuple[str, ...]:
    if replay is None:
        return ()
    isolation = replay_sentences(replay.record, "isolation") if replay.record else ()
    return (_ABOUT_REPLAY, *(f"About the isolation of the replay: {sentence}" for sentence in isolation))


def _gaps(original: Integrity, replay: Integrity | None) -> tuple[str, ...]:
    """Return each gap once, with the runs that have it."""
    found: dict[Gap, list[str]] = {}
    for which, examined in (("record", original), ("replay", replay)):
        for gap in examined.record.gaps if examined is not None and examined.record is not None else ():
            found.setdefault(gap, []).append(which)
    return tuple(
        f"{capital(' and '.join(which))}: {gap.topic}, {gap.subject}: {gap.reason}" for gap, which in found.items()
    )


def _steps(run_id: str) -> tuple[Step, ...]:
    return (
        Step(
            title="With no tools",
            text="Compare the report number and the digest of the manifest with those that the producer published "
            "elsewhere: on paper, in a letter, on an intranet page. A page cannot vouch for itself.",
            commands=(),
        ),
        Step(
            title="Compare digests",
            text="These are the digests that the signed statement beside this page lists under “subject”.",
            commands=("sha256sum report.html report.json manifest.duckdb",),
        ),
        Step(
            title="With repro",
            text="On a machine of your own, with a public key that reached you by another way than the record.",
            commands=(f"repro verify {run_id} --trust KEY.pub",),
        ),
        Step(
            title="Without repro",
            text="Rebuild the signed bytes and let openssl check the signature: the recipe is in "
            "docs/how-to/verify-without-repro.md, and needs base64, printf, openssl and sha256sum alone.",
            commands=("openssl pkeyutl -verify -pubin -inkey KEY.pub -rawin -in signed.bin -sigfile signature.bin",),
        ),
    )


def _curves(original: Record | None, replay: Record | None, verdict: Verdict | None) -> tuple[Curve, ...]:
    if original is None:
        return ()
    ours, theirs = _by_metric(original.metrics), _by_metric(replay.metrics if replay else ())
    compared = {(m.process_key, m.name): m for m in verdict.metrics} if verdict else {}
    ends: dict[str, int] = {}
    for (process_key, _), points in (*ours.items(), *theirs.items()):
        ends[process_key] = max(ends.get(process_key, 0), *(point.step for point in points))
    keys = sorted({*ours, *theirs}, key=lambda key: (key[1] != "loss", key))
    return tuple(_curve(k, ours.get(k, []), theirs.get(k, []), compared.get(k), ends[k[0]]) for k in keys)


def _by_metric(metrics: Sequence[Metric]) -> dict[tuple[str, str], list[Metric]]:
    found: dict[tuple[str, str], list[Metric]] = {}
    for metric in metrics:
        found.setdefault((metric.process_key, metric.name), []).append(metric)
    return found


def _curve(
    key: tuple[str, str], ours: list[Metric], theirs: list[Metric], compared: MetricComparison | None, last_step: int
) -> Curve:
    first = compared.first if compared else None
    return Curve(
        process_key=key[0],
        name=key[1],
        dtype=(ours or theirs)[0].dtype,
        original=_points(ours),
        replay=_points(theirs),
        original_steps=len(ours),
        replay_steps=len(theirs),
        first_difference=first.step if first else None,
        step_function="learning_rate" in key[1],
        last_step=last_step,
    )


def _points(metrics: list[Metric]) -> tuple[tuple[int, str], ...]:
    points = sorted((metric.step, metric.value) for metric in metrics)
    return tuple((step, repr(value)) for step, value in thin(points, LIMIT))
