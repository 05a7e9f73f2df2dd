"""A replay of the first steps is held against the same part of its original, and against nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from repro.audit import attest
from repro.audit.findings import findings
from repro.audit.prefix import STOPPED, steps_asked
from repro.audit.verdict import Reason, Word, exit_code, judge
from repro.evidence import schema
from repro.evidence.model import Fact, Setting


def first(record, steps, *, of="main"):
    """Return a replay as it is where its process was ended after some steps."""
    told = Setting(process_key=of, moment="end", name=STOPPED, value=str(steps))
    asked = Fact(topic="replay", name="steps", value=str(steps), source="declared")
    return replace(
        record,
        facts=(*record.facts, asked),
        settings=(*record.settings, told),
        metrics=tuple(row for row in record.metrics if row.step < steps),
        fingerprints=tuple(row for row in record.fingerprints if row.step < steps),
        checkpoints=(),
        data_files=tuple(row for row in record.data_files if row.role == "input"),
        run=replace(record.run, exit_code=0),
    )


@pytest.fixture
def original(make):
    """A run whose fingerprints were told between the losses of their step and of the next one."""
    record = make.traced(make.original())
    told = (replace(row, at_seconds=row.step * 0.1 + 0.01 + row.place / 1000) for row in record.fingerprints)
    return replace(record, fingerprints=tuple(told))


@pytest.fixture
def part(make, original):
    return first(make.replay(original), 6)


def test_equal_first_steps_are_no_match_of_the_run_and_pass(original, part):
    verdict = judge(original, part)
    assert (Word.INDETERMINATE, Reason.FIRST_STEPS_EQUAL, 6) == (verdict.word, verdict.reason, verdict.steps)
    assert verdict.sentence.startswith(
        "The first 6 steps are equal, bit for bit; what comes after was not run again. Loss equal at 6 of 6"
    )
    assert 0 == exit_code(verdict)
    assert () == verdict.outputs == verdict.differences
    assert "only the first 6 steps of each process that trains" == verdict.compared[-1]


def test_how_either_command_ended_is_no_part_of_it(original, part):
    killed = replace(original, run=replace(original.run, status="killed", exit_code=None, signal="SIGKILL"))
    failed = replace(part, run=replace(part.run, status="failed", exit_code=1))
    assert Reason.FIRST_STEPS_EQUAL is judge(killed, failed).reason
    stopped = replace(part, run=replace(part.run, status="interrupted", exit_code=None, signal="SIGINT"))
    verdict = judge(original, stopped)
    assert (Reason.PARTIAL_REPLAY, 5) == (verdict.reason, exit_code(verdict))


@pytest.mark.parametrize("field", ["batch", "weight", "gradient", "parameter"])
def test_a_fingerprint_that_differs_among_them_is_no_match(make, original, part, field):
    verdict = judge(original, make.altered(part, 4, field))
    assert (Word.DID_NOT_MATCH, 1) == (verdict.word, exit_code(verdict))
    assert verdict.sentence.startswith("The runs part at step 4 of optimizer.0 in main")


def test_a_step_that_is_missing_among_them_is_no_match(original, part):
    without = replace(part, metrics=tuple(row for row in part.metrics if (row.name, row.step) != ("loss", 5)))
    late = replace(part, fingerprints=tuple(row for row in part.fingerprints if row.step != 5))
    for each in (without, late):
        verdict = judge(original, each)
        assert (Word.DID_NOT_MATCH, 1) == (verdict.word, exit_code(verdict)), verdict.sentence


def test_a_replay_that_no_process_was_ended_in_is_a_whole_one(original, part):
    unended = replace(part, settings=tuple(row for row in part.settings if row.name != STOPPED))
    assert steps_asked(unended) is None
    assert Word.DID_NOT_MATCH is judge(original, unended).word


def test_a_gap_leaves_it_open(make, original, part):
    verdict = judge(original, replace(part, gaps=(make.gap("trace", "loss", "not read"),)))
    assert (Reason.EVIDENCE_GAP, 5) == (verdict.reason, exit_code(verdict))


def test_a_gap_in_the_operations_of_a_step_leaves_nothing_open(make, original, part):
    told = make.gap("trace", "operations", "what torch.compile has compiled is told only as far as it calls others")
    assert Reason.FIRST_STEPS_EQUAL is judge(original, replace(part, gaps=(told,))).reason


def test_limits_are_said(make, original, part):
    tolerant = replace(original, tolerances=(make.tolerance("loss", 1e-3),))
    verdict = judge(tolerant, part)
    assert Reason.FIRST_STEPS_EQUAL is verdict.reason
    assert verdict.sentence.startswith("The first 6 steps are equal, bit for bit; ")
    near = replace(part, metrics=tuple(_nudged(row) for row in part.metrics))
    verdict = judge(tolerant, near)
    assert Reason.FIRST_STEPS_EQUAL is verdict.reason
    assert verdict.sentence.startswith("The first 6 steps are within the limits; ")


def _nudged(row):
    return replace(row, value=row.value + 1e-4) if (row.name, row.step) == ("loss", 3) else row


def test_it_is_signed_and_told_as_what_it_is(examined, original, part):
    verdict = judge(original, part)
    runs = examined(original), examined(part)
    predicate = attest.verdict_predicate(
        verdict, original=runs[0], replay=runs[1], judged_at="2026-11-21T12:00:00.000000Z"
    )
    schema.validate(predicate, "verdict-1")
    assert ("INDETERMINATE", "FIRST_STEPS_EQUAL", 6) == tuple(predicate[k] for k in ("verdict", "reason", "steps"))
    titles = {finding.title: finding.level for finding in findings(*runs, verdict, None, ())}
    assert "look" == titles["Only the first steps were run again"]
