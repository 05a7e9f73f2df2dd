"""What was checked, how each check came out, and what needs a person, worst first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import astuple, replace
from typing import Final, Literal

from repro.audit import goingon
from repro.audit.diff import Diff
from repro.audit.divergence import MetricComparison
from repro.audit.lights import signed_items
from repro.audit.lineage import lineage
from repro.audit.rebase import replay_sentences
from repro.audit.report import Check, Counts, Finding, Outcome
from repro.audit.selfcheck import FAILED, PASSED, outcome_of
from repro.audit.selfcheck import sentence as self_check_sentence
from repro.audit.trace.fingerprints import AnchorComparison
from repro.audit.trace.replicas import Replicas, broken, replicas, sentence
from repro.audit.verdict import Reason, Verdict, Word
from repro.audit.wording import counted, listed, metric_phrase, outcome
from repro.evidence import judging
from repro.evidence.integrity import Integrity, RecordLight
from repro.evidence.model import Record

_MAX_DETAILS: Final = 200
_CONDITIONS = (
    *("code", "arguments", "hyperparameters", "data", "environment", "variables", "settings", "seeds", "randomness"),
    "processes",
)
"""Sections of a diff in which record and replay should be the same. Hardware may differ, and is reported apart."""


def checks(
    original: Integrity, replay: Integrity | None, verdict: Verdict | None, compared: Diff | None
) -> tuple[Check, ...]:
    """Return every check that was performed, in the order of the report."""
    found = [*_of_record("record", original)]
    if replay is not None:
        found += _of_record("replay", replay)
    if verdict is not None and original.record and replay and replay.record:
        found += _of_verdict(verdict, original.record, replay.record)
    if compared is not None and replay is not None:
        found += [_same(section, compared) for section in _CONDITIONS]
    return tuple(found)


def count(performed: Sequence[Check]) -> Counts:
    """Count checks by outcome."""
    totals = Counter(check.outcome for check in performed)
    return Counts(passed=totals["passed"], failed=totals["failed"], undetermined=totals["undetermined"])


def _of_record(which: str, examined: Integrity) -> Iterator[Check]:
    intact = not examined.problems and examined.record is not None
    sentence = f"{signed_items(examined):,} items agree with the signed statement" if intact else "see the findings"
    yield Check(name=f"Seal of the {which}", outcome="passed" if intact else "failed", detail=sentence)
    unsigned = examined.light is RecordLight.UNSIGNED
    signer: Outcome = "passed" if examined.signers else "failed" if unsigned else "undetermined"
    detail = {
        "passed": "a trusted key",
        "failed": "no signature",
        "undetermined": "a key that this machine does not know",
    }
    yield Check(name=f"Signer of the {which}", outcome=signer, detail=detail[signer])
    if examined.record is not None:
        yield _watched(which, examined.record)
        gaps = len(examined.record.gaps)
        complete: Outcome = "undetermined" if gaps else "passed"
        detail_gaps = f"{counted(gaps, 'gap')}: something was not seen" if gaps else "no gaps"
        yield Check(name=f"Completeness of the {which}", outcome=complete, detail=detail_gaps)
        yield from _self_checked(which, examined.record)
        yield from (_replicated(which, each) for each in replicas(examined.record) if len(each.ranks) > 1)


def _self_checked(which: str, record: Record) -> Iterator[Check]:
    came_out = outcome_of(record)
    if came_out is not None:
        known: dict[str, Outcome] = {PASSED: "passed", FAILED: "failed"}
        outcome = known.get(came_out, "undetermined")
        yield Check(name=f"Self-check of the {which}", outcome=outcome, detail=self_check_sentence(record))


def _replicated(which: str, each: Replicas) -> Check:
    same: Outcome = "failed" if each.parting else "passed" if each.compared_steps else "undetermined"
    detail = sentence(each).removeprefix(f"{each.anchor}: ")
    return Check(name=f"Weights of {each.anchor} across the ranks of the {which}", outcome=same, detail=detail)


def _watched(which: str, record: Record) -> Check:
    found = lineage(record)
    complete: Outcome = "passed" if found.status == "complete" else "undetermined"
    return Check(name=f"Lineage of the {which}", outcome=complete, detail=f"{found.status}; watched by: {found.layers}")


def _of_verdict(verdict: Verdict, original: Record, replay: Record) -> Iterator[Check]:
    ends = outcome(original), outcome(replay)
    changed = f"{counted(len(verdict.changed_data), 'file')} changed" if verdict.changed_data else "as recorded"
    yield Check(name="Data before the replay", outcome="failed" if verdict.changed_data else "passed", detail=changed)
    yield Check(
        name="End of the command", outcome="passed" if ends[0] == ends[1] else "failed", detail=" and ".join(ends)
    )
    yield from (_measured(metric, verdict) for metric in verdict.metrics)
    yield from (_traced(anchor, verdict) for anchor in verdict.trace.anchors)
    for output in verdict.outputs:
        if output.checkpoint or not verdict.metrics:
            states: dict[str, Outcome] = {"identical": "passed", "same-tensors": "passed", "not-hashed": "undetermined"}
            relaxed = verdict.word is Word.MATCHED_WITHIN_TOLERANCE and output.state != "identical"
            came_out = "undetermined" if relaxed else states.get(output.state, "failed")
            yield Check(name=f"Output {output.path}", outcome=came_out, detail=output.state)


def _measured(metric: MetricComparison, verdict: Verdict) -> Check:
    limits = dict(verdict.tolerances)
    passed = metric.equal or _within(metric, limits.get(metric.name))
    came_out: Outcome = "passed" if passed else "failed"
    detail = _metric_detail(metric, limits)
    if metric.name in verdict.unjudged:
        came_out = "passed" if metric.equal else "undetermined"
        detail = f"{_metric_detail(metric, {})}; declared unjudged"
    return Check(name=f"Metric {metric.name} of {metric.process_key}", outcome=came_out, detail=detail)


def _traced(anchor: AnchorComparison, verdict: Verdict) -> Check:
    missing = f"; {anchor.missing_steps:,} traced on one side only" * bool(anchor.missing_steps)
    missing += f"; one side alone has {listed(anchor.missing_fields)}" * bool(anchor.missing_fields)
    fine = anchor.first is None and not anchor.short
    # Under a tolerance the trace is told, and decides nothing.
    relaxed = not fine and verdict.word is Word.MATCHED_WITHIN_TOLERANCE
    came_out: Outcome = "undetermined" if relaxed or not anchor.compared_steps else "passed" if fine else "failed"
    detail = f"equal at {anchor.equal_steps:,} of {anchor.compared_steps:,} traced steps{missing}"
    return Check(name=f"Trace of {anchor.anchor} in {anchor.process_key}", outcome=came_out, detail=detail)


def _within(metric: MetricComparison, limit: float | None) -> bool:
    if limit is None or metric.missing_steps or metric.largest_difference is None:
        return False
    return metric.largest_difference <= limit


def _metric_detail(metric: MetricComparison, limits: dict[str, float]) -> str:
    limit = f"; limit {limits[metric.name]!r}" if metric.name in limits else ""
    return metric_phrase(metric).removeprefix(f"{metric.name} of {metric.process_key} ") + limit


def _same(section: str, compared: Diff) -> Check:
    number = len(compared.section(section))
    detail = counted(number, "difference") if number else "no difference"
    return Check(name=f"Same {section}", outcome="failed" if number else "passed", detail=detail)


def findings(
    original: Integrity,
    replay: Integrity | None,
    verdict: Verdict | None,
    compared: Diff | None,
    attested: Sequence[str],
) -> tuple[Finding, ...]:
    """Return what needs a person, worst first.

    Args:
        original: The examined original.
        replay: The examined replay, if there is one.
        verdict: What `judge` found.
        compared: What `diff` found.
        attested: What is wrong with the signed verdict, one sentence each.
    """
    found = [*_about_seal("record", original), *(_about_seal("replay", replay) if replay else ())]
    if attested:
        found.append(Finding(level="act", title="The signed verdict cannot be relied on", details=tuple(attested)))
    found += _about_verdict(verdict) if verdict else [_nobody()]
    found += _about_conditions(compared) if compared and replay else ()
    found += _said_before(replay.record) if replay and replay.record else ()
    records = {
        which: examined.record
        for which, examined in (("record", original), ("replay", replay))
        if examined is not None and examined.record is not None
    }
    for which, record in records.items():
        found += _about_lineage(which, record)
    found += _about_gaps(records)
    for which, record in records.items():
        found += _about_record(which, record)
    return tuple(sorted(map(_bounded, found), key=lambda finding: finding.level != "act"))


def _bounded(finding: Finding) -> Finding:
    """Keep the first details and count the rest: a hundred thousand files must not fill a page."""
    rest = len(finding.details) - _MAX_DETAILS
    if rest <= 0:
        return finding
    return replace(finding, details=(*finding.details[:_MAX_DETAILS], f"and {rest:,} more, in the manifest"))


def _nobody() -> Finding:
    return Finding(level="look", title="Nobody has run this training again", details=("To do so: repro replay RUN.",))


def _about_seal(which: str, examined: Integrity) -> Iterator[Finding]:
    if examined.problems:
        sentences = tuple(problem.sentence for problem in examined.problems)
        number = counted(len(sentences), "item")
        yield Finding(level="act", title=f"{number} of the {which} not as signed", details=sentences)
    elif examined.light is RecordLight.UNSIGNED:
        yield Finding(level="act", title=f"The {which} is not signed", details=())
    elif examined.light is RecordLight.UNKNOWN_SIGNER:
        details = tuple(f"Ask who holds {keyid}." for keyid in examined.strangers)
        yield Finding(
            level="act", title=f"The {which} is signed by a key that this machine does not know", details=details
        )


def _about_verdict(verdict: Verdict) -> Iterator[Finding]:
    if verdict.word is Word.DID_NOT_MATCH:
        yield Finding(level="act", title="The replay did not match", details=verdict.differences or (verdict.sentence,))
    elif verdict.reason is Reason.FIRST_STEPS_EQUAL:
        yield Finding(level="look", title="Only the first steps were run again", details=(verdict.sentence,))
    elif verdict.word is Word.INDETERMINATE:
        yield Finding(level="act", title="The replay says nothing certain", details=(verdict.sentence,))
    elif verdict.differences:
        yield Finding(level="look", title="Differences that did not decide", details=verdict.differences)


def _about_conditions(compared: Diff) -> Iterator[Finding]:
    for section in (*_CONDITIONS, "hardware"):
        differences = compared.section(section)
        if differences:
            title = f"The replay ran with {counted(len(differences), 'difference')} in {section}"
            yield Finding(level="look", title=title, details=tuple(d.name for d in differences))


def _said_before(replay: Record) -> Iterator[Finding]:
    conditions = replay_sentences(replay, "conditions")
    if conditions:
        yield Finding(level="look", title="Said before the replay started", details=conditions)


def _about_lineage(which: str, record: Record) -> Iterator[Finding]:
    found = lineage(record)
    if found.status == "complete":
        return
    level: Literal["act", "look"] = "act" if found.status == "none" else "look"
    title = f"The {which} may have read files that it does not list (lineage {found.status})"
    yield Finding(level=level, title=title, details=found.why or (found.sentence,))


def _about_gaps(records: dict[str, Record]) -> Iterator[Finding]:
    others = {which: [g for g in record.gaps if g.topic != "lineage"] for which, record in records.items()}
    incomplete = [which for which, gaps in others.items() if gaps]
    if incomplete:
        gaps = {gap for found in others.values() for gap in found}
        details = tuple(f"{gap.topic}, {gap.subject}: {gap.reason}" for gap in sorted(gaps, key=astuple))
        yield Finding(
            level="look", title=f"Not everything was seen in the {' and the '.join(incomplete)}", details=details
        )


def _about_record(which: str, record: Record) -> Iterator[Finding]:
    unstable = tuple(row.path for row in record.data_files if row.changed_during_run and row.category == "data")
    if unstable:
        yield Finding(level="look", title=f"Files changed while the {which} ran", details=unstable)
    if record.run.replay_of is None:
        yield from _about_code(which, record)
        yield from _about_self_check(record)
        yield from _about_unjudged(record)
    edited = Counter(row.package for row in record.package_changes)
    if edited:
        title = f"{counted(edited.total(), 'installed file')} of the {which} edited after installation"
        yield Finding(level="look", title=title, details=tuple(f"{name}: {number}" for name, number in edited.items()))
    apart = broken(record)
    if apart:
        title = f"The ranks of the {which} ceased to hold the same weights"
        yield Finding(level="act", title=title, details=apart)
    stands = goingon.phrases(record)
    if stands:
        yield Finding(level="look", title=f"The {which} goes on from another run", details=stands)
    if record.run.status != "completed":
        yield Finding(level="look", title=f"The {which} did not end well", details=(outcome(record),))


def _about_unjudged(record: Record) -> Iterator[Finding]:
    """Name what was declared to decide nothing, and which metrics that is: who reads must be able to object."""
    patterns = judging.patterns(record.tolerances)
    if not patterns:
        return
    recorded = {metric.name for metric in record.metrics}
    names = sorted(name for name in recorded if judging.is_unjudged(name, record.tolerances))
    details = (f"declared: {listed(patterns, 20)}", f"of the metrics recorded: {listed(names, 20) or 'none'}")
    title = f"{counted(len(names), 'metric')} declared unjudged when the run was recorded: no replay is judged by them"
    yield Finding(level="look", title=title, details=details)


def _about_self_check(record: Record) -> Iterator[Finding]:
    """Say what the machine that recorded the run found when it ran the first steps again."""
    came_out = outcome_of(record)
    if came_out == FAILED:
        title = "The run did not repeat on the machine that recorded it (its self-check failed)"
        yield Finding(level="act", title=title, details=(self_check_sentence(record),))
    elif came_out not in (None, PASSED):
        yield Finding(level="look", title="The self-check decided nothing", details=(self_check_sentence(record),))


def _about_code(which: str, record: Record) -> Iterator[Finding]:
    """Tell of code that the commit of the run does not vouch for."""
    changed = tuple(row.path for row in record.code_files if row.state in ("modified", "untracked", "ignored"))
    if changed:
        title = f"{counted(len(changed), 'code file')} of the {which} not as committed (kept in the record)"
        yield Finding(level="look", title=title, details=changed)
    outside = tuple(row.path for row in record.code_files if row.state == "editable")
    if outside:
        number = counted(len(outside), "code file")
        title = f"{number} of the {which} from editable installs outside its repository (kept in the record)"
        yield Finding(level="look", title=title, details=outside)
