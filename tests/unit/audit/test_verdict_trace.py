"""What fingerprints do to a verdict, to its signed form and to a diff."""

from __future__ import annotations

from dataclasses import replace

import pytest

from repro.audit import attest
from repro.audit.diff import diff
from repro.audit.verdict import Reason, Word, judge
from repro.cli.diff import document, lines
from repro.evidence import trust
from repro.evidence.model import Hyperparameter


@pytest.fixture
def original(make):
    return make.traced(make.original())


def ended(record, **changes):
    return replace(record, run=replace(record.run, **changes))


def hyperparameter(name, value, **changes):
    row = {
        "process_key": "main",
        "source": "argparse",
        "name": name,
        "ordinal": 0,
        "value": value,
        "site": "train.py:9",
    }
    return Hyperparameter(**{**row, **changes})


def test_equal_traces_match_exactly_and_are_counted(make, original):
    verdict = judge(original, make.replay(original))
    assert verdict.word is Word.MATCHED_EXACTLY
    assert verdict.sentence == (
        "Every metric, fingerprint and checkpoint came out the same, bit for bit. Loss equal at 60 of 60 backward "
        "passes; learning_rate.0 equal at 2 of 2 changes; 189 fingerprints of 3 tensors at 11 traced steps, all of "
        "them equal; 3 of 3 outputs byte-identical."
    )


@pytest.mark.parametrize("field", ["order", "batch", "weight", "gradient", "hyperparameter", "parameter", "state"])
def test_another_fingerprint_is_no_match_though_losses_and_checkpoints_are_equal(make, original, field):
    verdict = judge(original, make.altered(make.replay(original), 5, field))
    assert verdict.word is Word.DID_NOT_MATCH
    assert verdict.sentence.startswith("The runs part at step 5 of optimizer.0 in main, in the ")
    assert "at 11 traced steps, 10 of them equal" in verdict.sentence
    assert [d.partition(" of ")[0] for d in verdict.differences] == ["the trace differs from step 5"]


def test_a_random_state_that_nothing_drew_from_decides_nothing(make, original):
    verdict = judge(original, make.altered(make.replay(original), 5, "rng.python"))
    assert verdict.word is Word.MATCHED_EXACTLY
    assert verdict.differences[0].startswith("the state of Python's random generator differs from step 5")


def test_under_a_tolerance_the_trace_is_named_and_does_not_decide(make, original):
    tolerant = replace(original, tolerances=(make.tolerance("loss", 0.1),))
    replay = make.altered(make.replay(tolerant), 5, "gradient")
    replay = replace(replay, fingerprints=tuple(row for row in replay.fingerprints if row.step != 32))
    verdict = judge(tolerant, replay)
    assert verdict.word is Word.MATCHED_WITHIN_TOLERANCE
    assert "fingerprints and checkpoints need not be under the tolerance" in verdict.sentence
    assert verdict.differences[0].startswith("the trace differs from step 5 of optimizer.0 in main on: the gradients")


def test_the_trace_goes_before_a_loss_and_both_are_named(make, original):
    metrics = (*make.losses(60, wrong_from=6), *make.rates((0, 0.05), (40, 0.005)))
    verdict = judge(original, make.altered(make.replay(original, metrics=metrics), 5, "gradient"))
    assert verdict.sentence.startswith("The runs part at step 5")
    assert verdict.differences[1] == "loss of main differs from step 6 on"


def test_a_traced_step_that_one_side_lacks_is_no_match_under_one_schedule_alone(make, original):
    replay = make.replay(original)
    shorter = replace(replay, fingerprints=tuple(row for row in replay.fingerprints if row.step != 32))
    verdict = judge(original, shorter)
    assert verdict.word is Word.DID_NOT_MATCH
    assert "the trace of optimizer.0 in main has 11 steps in the original and 10 in the replay" in verdict.sentence
    other = replace(shorter, settings=make.traced(make.original(), every="64").settings)
    assert judge(original, other).word is Word.MATCHED_EXACTLY


def test_a_replay_without_a_trace_is_judged_by_the_rest_and_says_so(make, original):
    verdict = judge(original, make.replay(original, fingerprints=(), traced_tensors=()))
    assert verdict.word is Word.MATCHED_EXACTLY
    assert verdict.sentence.startswith("Every metric and checkpoint came out the same")
    assert verdict.differences == ("the original alone has a training trace, so none was compared",)


def test_a_trace_alone_is_enough_to_compare(make):
    original = make.traced(make.original(metrics=(), data_files=()))
    assert judge(original, make.replay(original)).word is Word.MATCHED_EXACTLY
    assert judge(original, make.altered(make.replay(original), 0, "gradient")).word is Word.DID_NOT_MATCH


def test_a_replay_cut_short_is_no_mismatch_for_the_steps_it_lacks(make, original):
    replay = ended(make.replay(original), status="interrupted", exit_code=130)
    replay = replace(replay, fingerprints=tuple(row for row in replay.fingerprints if row.step < 4))
    assert judge(original, replay).reason is Reason.PARTIAL_REPLAY
    assert judge(original, make.altered(replay, 2, "state")).word is Word.DID_NOT_MATCH


def test_a_tensor_that_could_not_be_read_leaves_no_verdict_open_and_a_broken_chain_does(make, original):
    for subject in ("fingerprint", "sketch", "parameter names", "optimizer.0", "order"):
        unread = make.gap("trace", subject, "a tensor of type X is not read")
        assert judge(replace(original, gaps=(unread,)), make.replay(original)).word is Word.MATCHED_EXACTLY
    broken = make.gap("trace", "main", "the chain of the trace is broken")
    assert judge(replace(original, gaps=(broken,)), make.replay(original)).reason is Reason.EVIDENCE_GAP


def test_what_is_missing_beside_a_gap_is_unknown_and_no_mismatch(make, original):
    unread = make.gap("trace", "optimizer.0", "OSError: no memory")
    replay = make.replay(original, gaps=(unread,))
    replay = replace(replay, fingerprints=tuple(row for row in replay.fingerprints if row.step != 8))
    verdict = judge(original, replay)
    assert (verdict.reason, "optimizer.0: OSError: no memory" in verdict.sentence) == (Reason.EVIDENCE_GAP, True)


def test_the_signed_verdict_holds_the_first_difference(make, sealed, store, original):
    pair = sealed(original), sealed(make.altered(make.replay(original), 16, "gradient", 0, 2))
    attest.attest(*pair, store, trust.trusted_keys(store))
    trace = attest.read_verdict(pair[1], trust.trusted_keys(store))[0]["trace"]
    first = trace["first_difference"]
    assert (first["step"], first["cause"], first["last_equal_step"], first["adjacent"]) == (16, "untraced", 8, False)
    assert [(f["field"], f["differing"], f["of"]) for f in first["fields"]] == [("gradient", 2, 3)]
    assert first["fields"][0]["tensors"][0] == {"name": "0.weight", "shape": "[64, 3]", "dtype": "float32"}
    assert [(a["compared_steps"], a["equal_steps"]) for a in trace["anchors"]] == [(11, 10)]


def test_a_signed_verdict_of_version_1_is_still_read(make, sealed, store, monkeypatch):
    def of_version_1(*args, **options):
        predicate = whole(*args, **options)
        del predicate["trace"]
        predicate["procedure"]["version"] = 1
        return predicate

    whole = attest.verdict_predicate
    monkeypatch.setattr(attest, "verdict_predicate", of_version_1)
    pair = sealed(make.original()), sealed(make.replay())
    attest.attest(*pair, store, trust.trusted_keys(store))
    assert attest.read_verdict(pair[1], trust.trusted_keys(store))[0]["procedure"]["version"] == 1


def test_a_diff_tells_of_the_trace_in_text_and_as_data(make, original):
    other = make.altered(make.altered(original, 5, "gradient", 0, 1), 5, "parameter", 1)
    compared = diff(original, other)
    text = list(lines(compared, everything=False))
    start = text.index("\ntrace")
    assert text[start + 1].startswith(
        "  The runs part at step 5 of optimizer.0 in main, in the gradients (2 of 3 tensors: "
    )
    assert text[start + 2] == "    then the weights after the step: 1 of 3 tensors: 0.bias [64] float32"
    assert text[start + 3] == "  optimizer.0 (main): 10 of 11 traced steps equal"
    assert not compared.same
    found = document(compared)["trace"]
    assert (found["first"]["step"], found["first"]["what"]["field"], found["first"]["cause"]) == (
        5,
        "gradient",
        "gradient-numerics",
    )


def test_a_diff_of_equal_traces_says_how_much_was_compared(original):
    compared = diff(original, original)
    assert compared.same
    assert "  optimizer.0 (main): 11 of 11 traced steps equal" in list(lines(compared, everything=False))


def test_a_diff_with_a_run_that_was_not_traced_says_so(make, original):
    compared = diff(original, make.original(settings=original.settings))
    assert compared.same
    assert "The training of one of the runs alone was traced step by step." in compared.not_compared
    assert "  optimizer.0 (main): no step that both runs traced, of 11 and 0" in list(lines(compared, everything=False))


def test_two_schedules_are_no_difference_and_are_told(make, original):
    other = replace(
        make.traced(make.original(), every="64"),
        fingerprints=tuple(row for row in original.fingerprints if row.step != 32),
    )
    compared = diff(original, other)
    assert (compared.same, compared.differences) == (True, ())
    assert compared.not_compared == (
        "The runs were traced on different schedules: only the steps that both traced are compared.",
    )


def test_hyperparameters_are_compared_by_name_with_both_values(make):
    ranks = [{"process_key": key} for key in ("main/rank0", "main/rank1")]
    left = make.original(hyperparameters=tuple(hyperparameter("lr", "0.05", **rank) for rank in ranks))
    right = make.original(hyperparameters=tuple(hyperparameter("lr", "0.1", **rank) for rank in ranks))
    (found,) = diff(left, right).differences
    assert (found.section, found.name, found.left, found.right) == ("hyperparameters", "lr", "0.05", "0.1")
    assert found.note == "argparse, main/rank0, main/rank1"


def test_a_hyperparameter_of_one_side_and_a_second_value_are_told(make):
    left = make.original(hyperparameters=(hyperparameter("lr", "0.05"), hyperparameter("wd", "0.01", source="hydra")))
    right = make.original(hyperparameters=(hyperparameter("lr", "0.05"), hyperparameter("lr", "0.1", ordinal=1)))
    found = [(d.name, d.left, d.right, d.note) for d in diff(left, right).differences]
    assert found == [("lr", None, "0.1", "argparse, main, value 2 of this name"), ("wd", "0.01", None, "hydra, main")]


def test_hyperparameters_of_one_run_alone_are_not_compared(make):
    compared = diff(make.original(hyperparameters=(hyperparameter("lr", "0.05"),)), make.original())
    assert (compared.same, compared.not_compared) == (True, ("Hyperparameters were told of one of the runs alone.",))


def test_a_path_among_the_hyperparameters_is_that_of_the_original(make):
    original = make.original(hyperparameters=(hyperparameter("data", f"{make.root}/data"),))
    replay = make.replay(original, hyperparameters=(hyperparameter("data", f"{make.scratch}/data"),))
    assert diff(original, replay).section("hyperparameters") == ()
