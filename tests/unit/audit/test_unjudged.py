"""What was declared unjudged is compared and shown, and decides nothing; what was not, and is a time, is suggested."""

from __future__ import annotations

from dataclasses import replace

import pytest

from repro.audit.attest import verdict_predicate
from repro.audit.findings import checks, findings
from repro.audit.verdict import Reason, Word, judge
from repro.evidence import schema
from repro.evidence.judging import without_limit
from repro.evidence.model import Metric


def seconds(*values: float, name: str = "epoch_seconds") -> tuple[Metric, ...]:
    return tuple(
        Metric(process_key="main", name=name, step=step, value=value, dtype="float64", at_seconds=0.0)
        for step, value in enumerate(values)
    )


@pytest.fixture
def pair(make):
    """Return a function that makes a run that logs a time, and a replay of it that logs another."""

    def build(*tolerances, left=(1.5, 1.6), right=(1.7, 1.6), **changes):
        original = make.original(tolerances=tolerances)
        replay = make.replay(**changes)
        return (
            replace(original, metrics=(*original.metrics, *seconds(*left))),
            replace(replay, metrics=(*replay.metrics, *seconds(*right))),
        )

    return build


@pytest.mark.parametrize("declared", ["epoch_seconds", "*seconds"])
def test_a_time_that_was_declared_decides_nothing_and_is_shown(pair, declared):
    verdict = judge(*pair(without_limit(declared)))
    assert verdict.word is Word.MATCHED_EXACTLY
    assert verdict.sentence.startswith(
        "Every judged metric and checkpoint came out the same, bit for bit. "
        "Declared unjudged when the run was recorded: 1 metric (epoch_seconds). Loss equal at 60 of 60"
    )
    assert "epoch_seconds equal" not in verdict.sentence
    assert verdict.differences == ("epoch_seconds of main differs from step 0 on (declared unjudged)",)
    assert verdict.unjudged == ("epoch_seconds",)
    assert [m.equal_steps for m in verdict.metrics if m.name == "epoch_seconds"] == [1]


def test_missing_steps_of_what_is_unjudged_decide_nothing(pair):
    verdict = judge(*pair(without_limit("epoch_seconds"), right=(1.5,)))
    assert verdict.word is Word.MATCHED_EXACTLY
    assert "epoch_seconds of main has 2 steps in the original and 1 in the replay" in verdict.differences[0]


def test_the_rest_is_judged_to_the_bit(pair, make):
    verdict = judge(*pair(without_limit("epoch_seconds"), metrics=make.losses(60, wrong_from=50)))
    assert verdict.word is Word.DID_NOT_MATCH
    assert verdict.sentence.startswith("Loss of main differs from step 50 on")
    assert "--unjudged" not in verdict.sentence


def test_a_declaration_by_the_replay_counts_for_nothing(pair):
    verdict = judge(*pair(tolerances=(without_limit("epoch_seconds"),)))
    assert verdict.word is Word.DID_NOT_MATCH


def test_where_only_a_time_differs_the_sentence_says_how_it_is_declared(pair):
    verdict = judge(*pair())
    assert verdict.word is Word.DID_NOT_MATCH
    assert "nothing else that counts differs" in verdict.sentence
    assert "repro record --unjudged 'epoch_seconds'." in verdict.sentence


def test_where_something_else_differs_too_nothing_is_suggested(pair, make):
    original, replay = pair()
    rows = tuple(replace(r, digest=make.digest("x")) if r.path == "runs/best.pt" else r for r in replay.data_files)
    for other in (replace(replay, data_files=rows), replace(replay, run=replace(replay.run, exit_code=3))):
        assert "--unjudged" not in judge(original, other).sentence
    assert "--unjudged" not in judge(*pair(metrics=make.losses(60, wrong_from=50))).sentence


def test_where_all_is_unjudged_there_is_nothing_to_compare(pair):
    original, replay = (replace(record, data_files=()) for record in pair(without_limit("*")))
    verdict = judge(original, replay)
    assert (verdict.word, verdict.reason) == (Word.INDETERMINATE, Reason.NOTHING_TO_COMPARE)


def test_where_all_is_unjudged_outputs_decide(pair, make):
    original, replay = pair(without_limit("*"))
    assert judge(original, replay).word is Word.MATCHED_EXACTLY
    rows = tuple(replace(r, digest=make.digest("x")) if r.role == "output" else r for r in replay.data_files)
    assert judge(original, replace(replay, data_files=rows)).word is Word.DID_NOT_MATCH


def test_page_one_names_what_was_declared_and_the_signed_verdict_keeps_it(pair, examined):
    records = pair(without_limit("*seconds"))
    original, replay = map(examined, records)
    verdict = judge(*records)
    (told,) = [f for f in findings(original, replay, verdict, None, ()) if "declared unjudged" in f.title]
    assert told.title.startswith("1 metric declared unjudged when the run was recorded")
    assert told.details == ("declared: *seconds", "of the metrics recorded: epoch_seconds")
    outcomes = {c.name: (c.outcome, c.detail) for c in checks(original, replay, verdict, None)}
    assert outcomes["Metric epoch_seconds of main"] == ("undetermined", "differs from step 0 on; declared unjudged")
    assert outcomes["Metric loss of main"][0] == "passed"
    predicate = verdict_predicate(verdict, original=original, replay=replay, judged_at="2026-01-02T03:04:05Z")
    schema.validate(predicate, "verdict-1")
    assert predicate["tolerances"] == [{"metric": "*seconds", "absolute": "inf"}]
    assert original.statement["predicate"]["tolerances"] == [
        {"metric": "*seconds", "absolute": {"decimal": "inf", "bits": "7ff0000000000000"}}
    ]
