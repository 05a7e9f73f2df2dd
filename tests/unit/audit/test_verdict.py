"""Seven rules, the first that applies; and the conclusions that must never be drawn."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest

from repro.audit.verdict import Reason, Word, exit_code, judge
from repro.errors import UsageError
from repro.evidence.model import Gap


def ended(record, **changes):
    return replace(record, run=replace(record.run, **changes))


def with_output(record, path, **changes):
    rows = tuple(replace(row, **changes) if row.path == path else row for row in record.data_files)
    return replace(record, data_files=rows)


def without(record, path):
    return replace(record, data_files=tuple(row for row in record.data_files if row.path != path))


KILLED = {"status": "killed", "exit_code": None, "signal": "SIGKILL"}


def test_a_faithful_replay_matches_exactly(make):
    verdict = judge(make.original(), make.replay())
    assert (verdict.word, verdict.reason, exit_code(verdict)) == (Word.MATCHED_EXACTLY, None, 0)
    assert verdict.sentence == (
        "Every metric and checkpoint came out the same, bit for bit. Loss equal at 60 of 60 backward passes; "
        "learning_rate.0 equal at 2 of 2 changes; 3 of 3 outputs byte-identical."
    )
    assert verdict.differences == ()
    assert (verdict.procedure, verdict.procedure_version) == ("repro/compare", 3)


def test_another_output_than_a_checkpoint_is_named_and_does_not_decide(make):
    verdict = judge(make.original(), with_output(make.replay(), "runs/timing.json", digest=make.digest("19.1 s")))
    assert verdict.word is Word.MATCHED_EXACTLY
    assert verdict.sentence.endswith("2 of 3 outputs byte-identical; runs/timing.json differs.")
    assert verdict.differences == ("runs/timing.json differs",)


@pytest.mark.parametrize("path", ["runs/best.pt", "runs/last.pt"])
def test_a_checkpoint_with_other_bytes_is_no_match(make, path):
    verdict = judge(make.original(), with_output(make.replay(), path, digest=make.digest("other")))
    assert (verdict.word, exit_code(verdict)) == (Word.DID_NOT_MATCH, 1)
    assert verdict.sentence.startswith(f"Other bytes in {path}.")


@pytest.mark.parametrize("side", ["original", "replay"])
def test_a_checkpoint_of_one_side_alone_is_no_match(make, side):
    original, replay = make.original(), make.replay()
    if side == "original":
        replay = without(replay, "runs/best.pt")
    else:
        original = without(original, "runs/best.pt")
    verdict = judge(original, replay)
    assert verdict.word is Word.DID_NOT_MATCH
    assert f"runs/best.pt was written by the {side} alone" in verdict.sentence


def test_the_first_differing_step_is_in_the_sentence(make):
    replay = make.replay(metrics=(*make.losses(60, wrong_from=17), *make.rates((0, 0.05), (40, 0.005))))
    verdict = judge(make.original(), replay)
    assert verdict.word is Word.DID_NOT_MATCH
    assert verdict.sentence.startswith("Loss of main differs from step 17 on: ")
    assert "Loss equal at 17 of 60 backward passes" in verdict.sentence
    assert verdict.differences == ("loss of main differs from step 17 on",)


def test_one_process_of_two_that_differs_is_no_match(make):
    ranks = ("main/rank0", "main/rank1")
    left = tuple(m for rank in ranks for m in make.losses(9, process_key=rank))
    right = (*make.losses(9, process_key=ranks[0]), *make.losses(9, process_key=ranks[1], wrong_from=8))
    verdict = judge(make.original(metrics=left), make.replay(metrics=right))
    assert verdict.word is Word.DID_NOT_MATCH
    assert "main/rank1 differs from step 8" in verdict.sentence


def test_negative_zero_in_place_of_zero_is_no_match(make):
    left = make.losses(1)[:1]
    verdict = judge(
        make.original(metrics=(replace(left[0], value=0.0),)), make.replay(metrics=(replace(left[0], value=-0.0),))
    )
    assert verdict.word is Word.DID_NOT_MATCH
    assert "(bits 00000000 and 80000000)" in verdict.sentence


@pytest.mark.parametrize("shift", [-1, 1])
def test_fewer_or_more_steps_are_no_match(make, shift):
    replay = make.replay(metrics=(*make.losses(60)[: 60 + min(shift, 0)], *make.rates((0, 0.05), (40, 0.005))))
    if shift > 0:
        replay = replace(replay, metrics=(*replay.metrics, replace(make.losses(1)[0], step=60)))
    verdict = judge(make.original(), replay)
    assert verdict.word is Word.DID_NOT_MATCH
    assert f"loss of main has 60 steps in the original and {60 + shift} in the replay" in verdict.sentence


def test_a_metric_that_the_replay_lacks_is_no_match(make):
    verdict = judge(make.original(), make.replay(metrics=make.losses(60)))
    assert verdict.word is Word.DID_NOT_MATCH
    assert "learning_rate.0 of main has 2 steps in the original and 0 in the replay" in verdict.sentence


@pytest.mark.parametrize(
    "end", [{"status": "failed", "exit_code": 3}, {"status": "killed", "exit_code": None, "signal": "SIGSEGV"}]
)
def test_another_end_of_the_command_is_no_match(make, end):
    verdict = judge(make.original(), ended(make.replay(), **end))
    assert verdict.word is Word.DID_NOT_MATCH
    assert verdict.sentence.startswith("The original completed; the replay ")


def test_the_same_failure_again_matches(make):
    failed = {"status": "failed", "exit_code": 3}
    assert judge(ended(make.original(), **failed), ended(make.replay(), **failed)).word is Word.MATCHED_EXACTLY


def test_data_that_the_replay_saw_changed_leave_it_open(make):
    verdict = judge(make.original(), make.replay(), changed_data=("data/train.npz",))
    assert (verdict.label, exit_code(verdict)) == ("INDETERMINATE:DATA_CHANGED", 5)
    assert "data/train.npz" in verdict.sentence
    assert verdict.changed_data == ("data/train.npz",)


def test_data_that_the_records_show_changed_leave_it_open_without_being_told(make):
    replay = with_output(make.replay(), "data/test.npz", digest=make.digest("swapped"))
    assert judge(make.original(), replay).label == "INDETERMINATE:DATA_CHANGED"


def test_data_whose_change_was_sealed_with_the_replay_leave_it_open_without_being_told(make):
    replay = make.replay()
    sealed = make.facts("replay", changed_data='["data/x.csv changed on 2026-11-20 14:03 UTC"]')
    verdict = judge(make.original(), replace(replay, facts=(*replay.facts, *sealed)))
    assert verdict.label == "INDETERMINATE:DATA_CHANGED"
    assert "data/x.csv changed on" in verdict.sentence


def test_changed_data_are_no_mismatch_even_where_the_numbers_differ(make):
    replay = make.replay(metrics=make.losses(60, wrong_from=0))
    assert judge(make.original(), replay, changed_data=("x",)).reason is Reason.DATA_CHANGED


def test_nothing_to_compare_is_no_match(make):
    verdict = judge(make.original(metrics=(), data_files=()), make.replay(metrics=(), data_files=()))
    assert (verdict.label, exit_code(verdict)) == ("INDETERMINATE:NOTHING_TO_COMPARE", 5)
    assert verdict.evidence == ""


def test_nothing_to_compare_but_another_end_is_no_match(make):
    replay = ended(make.replay(metrics=(), data_files=()), status="failed", exit_code=1)
    assert judge(make.original(metrics=(), data_files=()), replay).word is Word.DID_NOT_MATCH


def test_without_metrics_every_output_decides(make):
    same = judge(make.original(metrics=()), make.replay(metrics=()))
    other = with_output(make.replay(metrics=()), "runs/timing.json", digest=make.digest("x"))
    gone = without(make.replay(metrics=()), "runs/timing.json")
    unhashed = with_output(make.replay(metrics=()), "runs/timing.json", digest=None)
    original = make.original(metrics=())
    assert (same.word, same.sentence[:25]) == (Word.MATCHED_EXACTLY, "Every output came out the")
    assert judge(original, other).word is Word.DID_NOT_MATCH
    assert judge(original, gone).word is Word.DID_NOT_MATCH
    assert judge(original, unhashed).reason is Reason.EVIDENCE_GAP


@pytest.mark.parametrize("side", ["original", "replay"])
@pytest.mark.parametrize("topic", ["trace", "agent"])
def test_a_gap_in_the_trace_leaves_a_match_open(make, side, topic):
    gaps = (make.gap(topic),)
    original = make.original(gaps=gaps if side == "original" else ())
    replay = make.replay(gaps=gaps if side == "replay" else ())
    verdict = judge(original, replay)
    assert (verdict.label, exit_code(verdict)) == ("INDETERMINATE:EVIDENCE_GAP", 5)
    assert "main: it was not seen" in verdict.sentence


def test_a_gap_elsewhere_does_not(make):
    gaps = (make.gap("lock"), make.gap("environment"), make.gap("hardware"))
    assert judge(make.original(gaps=gaps), make.replay(gaps=gaps)).word is Word.MATCHED_EXACTLY


def test_a_certain_mismatch_stays_one_in_spite_of_a_gap(make):
    replay = make.replay(gaps=(make.gap("trace"),), metrics=make.losses(60, wrong_from=3))
    assert judge(make.original(), replay).word is Word.DID_NOT_MATCH


def test_missing_steps_with_a_gap_are_open(make):
    replay = make.replay(gaps=(make.gap("trace"),), metrics=(*make.losses(60)[:50], *make.original().metrics[60:]))
    assert judge(make.original(), replay).reason is Reason.EVIDENCE_GAP


def test_a_checkpoint_without_a_digest_leaves_it_open(make):
    verdict = judge(make.original(), with_output(make.replay(), "runs/best.pt", digest=None))
    assert verdict.reason is Reason.EVIDENCE_GAP
    assert "runs/best.pt: has no digest" in verdict.sentence


@pytest.mark.parametrize("status", ["killed", "interrupted"])
def test_an_original_that_was_cut_short_can_only_be_repeated_in_part(make, status):
    original = ended(make.original(metrics=make.losses(60)[:33]), **{**KILLED, "status": status})
    verdict = judge(original, make.replay(metrics=make.losses(60)))
    assert (verdict.label, exit_code(verdict)) == ("INDETERMINATE:PARTIAL_REPLAY", 5)
    assert f"the original was {status} by SIGKILL" in verdict.sentence


def test_a_replay_that_was_cut_short_is_no_mismatch(make):
    replay = ended(without(make.replay(metrics=make.losses(60)[:5]), "runs/best.pt"), **KILLED)
    assert judge(make.original(), replay).reason is Reason.PARTIAL_REPLAY


def test_a_part_that_differs_is_a_mismatch_all_the_same(make):
    original = ended(make.original(metrics=make.losses(60)[:33]), **KILLED)
    verdict = judge(original, make.replay(metrics=make.losses(60, wrong_from=20)))
    assert verdict.word is Word.DID_NOT_MATCH


def test_a_learning_rate_that_falls_after_the_cut_is_no_mismatch(make):
    original = ended(make.original(metrics=(*make.losses(60)[:33], *make.rates((0, 0.05)))), **KILLED)
    assert judge(original, make.replay()).reason is Reason.PARTIAL_REPLAY


def test_checkpoints_of_a_run_cut_short_are_no_mismatch(make):
    original = ended(with_output(make.original(), "runs/last.pt", digest=make.digest("earlier")), **KILLED)
    assert judge(original, make.replay()).reason is Reason.PARTIAL_REPLAY


def test_within_the_tolerance_that_was_sealed_is_a_match_of_its_own_word(make):
    original = make.original(tolerances=(make.tolerance("loss", 0.1),))
    replay = make.replay(metrics=(*make.losses(60, wrong_from=50), *original.metrics[60:]), tolerances=())
    replay = with_output(replay, "runs/best.pt", digest=make.digest("close"))
    verdict = judge(original, replay)
    assert (verdict.word, exit_code(verdict)) == (Word.MATCHED_WITHIN_TOLERANCE, 0)
    assert "Loss of main differs by at most 0.01" in verdict.sentence
    assert "(limit 0.1)" in verdict.sentence
    assert "sealed with the recorded run on 2026-11-20T14:03:42.654321Z, before the replay" in verdict.sentence


def test_a_tolerance_of_the_replay_counts_for_nothing(make):
    replay = make.replay(metrics=make.losses(60, wrong_from=50), tolerances=(make.tolerance("loss", 10.0),))
    assert judge(make.original(), replay).word is Word.DID_NOT_MATCH


def test_beyond_the_tolerance_is_no_match_and_names_the_limit(make):
    original = make.original(tolerances=(make.tolerance("loss", 0.001),))
    replay = make.replay(metrics=(*make.losses(60, wrong_from=50), *original.metrics[60:]))
    verdict = judge(original, replay)
    assert verdict.word is Word.DID_NOT_MATCH
    assert "limit 0.001" in verdict.sentence


def test_a_metric_without_a_tolerance_must_still_be_equal_in_every_bit(make):
    original = make.original(tolerances=(make.tolerance("loss", 0.1),))
    replay = make.replay(metrics=(*make.losses(60, wrong_from=50), *make.rates((0, 0.05), (41, 0.005))))
    verdict = judge(original, replay)
    assert verdict.word is Word.DID_NOT_MATCH
    assert verdict.sentence.startswith("learning_rate.0 of main differs from step 40")


def test_equal_bits_and_checkpoints_match_exactly_whatever_the_tolerance(make):
    original = make.original(tolerances=(make.tolerance("loss", 0.1),))
    assert judge(original, make.replay(original)).word is Word.MATCHED_EXACTLY


def test_equal_metrics_with_other_checkpoints_match_within_a_tolerance(make):
    original = make.original(tolerances=(make.tolerance("loss", 0.1),))
    replay = with_output(make.replay(original), "runs/best.pt", digest=make.digest("x"))
    verdict = judge(original, replay)
    assert verdict.word is Word.MATCHED_WITHIN_TOLERANCE
    assert "checkpoints need not be under the tolerance" in verdict.sentence


def test_a_tolerance_for_a_metric_that_never_came_relaxes_nothing(make):
    original = make.original(tolerances=(make.tolerance("accuracy", 0.1),))
    replay = with_output(make.replay(original), "runs/best.pt", digest=make.digest("x"))
    assert judge(original, replay).word is Word.DID_NOT_MATCH


@pytest.mark.parametrize("limit", [math.nan, -1.0])
@pytest.mark.parametrize("wrong_from", [59])
def test_a_tolerance_that_makes_no_sense_lets_nothing_pass(make, limit, wrong_from):
    original = make.original(tolerances=(make.tolerance("loss", limit),))
    replay = make.replay(metrics=(*make.losses(60, wrong_from=wrong_from), *original.metrics[60:]))
    assert judge(original, replay).word is Word.DID_NOT_MATCH


def test_not_a_number_is_within_no_tolerance(make):
    original = make.original(tolerances=(make.tolerance("loss", 1e300),))
    losses = make.losses(60)
    replay = make.replay(
        metrics=(*losses[:30], replace(losses[30], value=math.nan), *losses[31:], *original.metrics[60:])
    )
    verdict = judge(original, replay)
    assert verdict.word is Word.DID_NOT_MATCH
    assert "largest difference not finite at step 30" in verdict.sentence


def test_missing_steps_are_within_no_tolerance(make):
    original = make.original(tolerances=(make.tolerance("loss", 1e300),))
    assert (
        judge(original, make.replay(metrics=(*make.losses(60)[:59], *original.metrics[60:]))).word is Word.DID_NOT_MATCH
    )


def test_only_a_replay_of_that_very_run_is_judged(make):
    other = ended(make.replay(), replay_of="ffffffffffff")
    with pytest.raises(UsageError, match="no replay of"):
        judge(make.original(), other)
    with pytest.raises(UsageError, match="no replay of"):
        judge(make.original(), make.original())


def test_unknown_never_passes(make):
    """Whatever is combined with evidence that is missing, the word is none of the two that exit 0."""
    doubts = (
        lambda o, r: (replace(o, gaps=(make.gap("trace"),)), r),
        lambda o, r: (o, replace(r, gaps=(make.gap("agent"),))),
        lambda o, r: (ended(o, **KILLED), r),
        lambda o, r: (o, ended(r, status="interrupted", exit_code=None, signal="SIGINT")),
        lambda o, r: (o, with_output(r, "runs/best.pt", digest=None)),
        lambda o, r: (o, with_output(r, "data/train.npz", digest=make.digest("other"))),
        lambda o, r: (replace(o, metrics=(), data_files=()), replace(r, metrics=(), data_files=())),
    )
    for first, second in itertools.product(doubts, repeat=2):
        original, replay = second(*first(make.original(), make.replay()))
        assert exit_code(judge(original, replay)) == 5


@pytest.mark.parametrize("subject", ["learning_rate", "learning_rate.0", "optimizer.1.learning_rate.0"])
def test_a_learning_rate_that_was_not_read_shows_in_the_losses(make, subject):
    gap = Gap(topic="trace", subject=subject, reason="no step of a torch optimizer was seen")
    original, replay = make.original(), make.replay()
    rates = tuple(m for m in original.metrics if m.name == "loss")
    pair = [replace(r, gaps=(*r.gaps, gap), metrics=rates) for r in (original, replay)]
    assert judge(*pair).word is Word.MATCHED_EXACTLY
    lost = replace(gap, subject="loss")
    assert judge(pair[0], replace(pair[1], gaps=(lost,))).reason is Reason.EVIDENCE_GAP
