"""Operations of one step, side by side; and what a self-check makes of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from repro.audit import selfcheck, selfcheckfacts
from repro.audit.diff import diff
from repro.audit.findings import checks, findings
from repro.audit.lights import replay_light
from repro.audit.trace.operations import compare_operations, found, operation_words, operations_sentence
from repro.audit.verdict import judge
from repro.cli.diff import document, lines
from repro.evidence.model import Operation

A, B, C, NOTHING = "a" * 16, "b" * 16, "c" * 16, "-" * 16


def told(*rows, step=3):
    """Return operations from (name, inputs, words)."""
    return tuple(
        Operation(
            process_key="main",
            anchor="optimizer.0",
            step=step,
            place=place,
            name=name,
            inputs=inputs,
            words=words,
            site=f"train.py:{place + 1}",
        )
        for place, (name, inputs, words) in enumerate(rows)
    )


PLAIN = (
    ("aten::empty", "", NOTHING),
    ("aten::mm", f"float32[2,2] {A}", B),
    ("aten::index_put_", f"float32[2] {B}", C),
)


def record(make, *rows):
    return replace(make.original(), operations=told(*rows))


@pytest.mark.parametrize(
    ("theirs", "outcome", "place", "compared"),
    [
        (PLAIN, "equal", None, 3),
        ((*PLAIN[:2], ("aten::index_put_", f"float32[2] {B}", A)), "differs", 2, 3),
        ((PLAIN[0], ("aten::mm", f"float32[2,2] {C}", A), PLAIN[2]), "inputs differ", 1, 3),
        ((*PLAIN[:1], ("aten::bmm", f"float32[2,2] {A}", B)), "order differs", 1, 1),
        (PLAIN[:2], "order differs", 2, 2),
        ((("aten::empty", "", A), *PLAIN[1:]), "equal", None, 3),
        ((*PLAIN[:2], ("aten::index_put_", f"float32[2] {NOTHING}", A)), "inputs differ", 2, 3),
    ],
)
def test_the_first_that_gives_others_for_the_same(make, theirs, outcome, place, compared):
    (result,) = compare_operations(record(make, *PLAIN), record(make, *theirs))
    assert (outcome, compared) == (result.outcome, result.compared)
    assert place == (None if result.first is None else result.first.place)
    assert (found([result]) is not None) == (outcome == "differs")


def test_what_is_found_behind_other_inputs_still_counts(make):
    theirs = (PLAIN[0], ("aten::mm", f"float32[2,2] {C}", A), ("aten::index_put_", f"float32[2] {B}", A))
    (result,) = compare_operations(record(make, *PLAIN), record(make, *theirs))
    assert ("differs", "aten::index_put_") == (result.outcome, result.first.name)


def test_other_steps_are_not_compared(make):
    other = replace(make.original(), operations=told(*PLAIN, step=4))
    assert () == compare_operations(record(make, *PLAIN), other)


def test_a_diff_names_it(make):
    changed = record(make, *PLAIN[:2], ("aten::index_put_", f"float32[2] {B}", A))
    compared = diff(record(make, *PLAIN), changed)
    sentence = operations_sentence(compared.operations[0])
    assert sentence == (
        "operations of step 3 of optimizer.0 (main): aten::index_put_ at train.py:3 was given the same, and gave "
        "something else; 3 compared"
    )
    assert f"  {sentence}" in list(lines(compared, everything=False))
    assert "differs" == document(compared)["operations"][0]["outcome"]


def test_a_site_in_the_backward_pass():
    (row,) = told(("aten::mm", "", A))
    assert "aten::mm in the backward pass of train.py:1" == operation_words(replace(row, site="train.py:1 backward"))
    assert "aten::mm (called by autograd)" == operation_words(replace(row, site=""))


def test_facts_of_a_self_check(make):
    original = make.traced(make.original())
    passed = selfcheckfacts.facts_of(4, judge(original, make.replay(original)))
    assert {"steps": "4", "outcome": "passed"} == {fact.name: fact.value for fact in passed}
    failed = selfcheckfacts.facts_of(4, judge(original, make.altered(make.replay(original), 3, "gradient")))
    known = {fact.name: fact.value for fact in failed}
    assert "failed" == known["outcome"]
    assert known["reason"].startswith("The runs part at step 3 of optimizer.0 in main, in the gradients")
    crashed = make.replay(original)
    crashed = replace(crashed, run=replace(crashed.run, status="failed", exit_code=1))
    known = {fact.name: fact.value for fact in selfcheckfacts.facts_of(4, judge(original, crashed))}
    assert ("undecided", "The original completed; the replay failed with exit code 1.") == (
        known["outcome"],
        known["reason"],
    )


def test_what_is_sealed_of_the_search():
    (row,) = told(("aten::index_put", "", A))
    known = {f.name: f.value for f in selfcheckfacts.search_facts(replace(row, site="train.py:9 backward"), 3, 2)}
    assert {
        "search": "step 3 was run 2 times, operation by operation.",
        "operation": "aten::index_put (in the backward pass of that line)",
        "site": "train.py:9",
    } == known
    (only,) = selfcheckfacts.search_facts(None, 3, 4)
    assert (
        "step 3 was run 4 times, operation by operation: no operation gave other bits for the same bits." == only.value
    )


@pytest.mark.parametrize("outcome", ["passed", "failed", "undecided"])
def test_page_one_and_later_verdicts_tell_of_it(make, examined, outcome):
    original = make.traced(make.original())
    told = selfcheckfacts.facts(4, outcome, **({} if outcome == "passed" else {"reason": "Something differs."}))
    original = replace(original, facts=tuple(sorted((*original.facts, *told), key=lambda f: (f.topic, f.name))))
    replay = make.altered(make.replay(original), 3, "gradient")
    verdict = judge(original, replay)
    repeats_not = "Its self-check had failed: this run does not repeat on the machine it was recorded on."
    assert (repeats_not in verdict.caveats) == (outcome == "failed")
    assert (repeats_not in replay_light(verdict, "same key").why) == (outcome == "failed")
    assert repeats_not not in judge(original, make.replay(original)).caveats
    runs = examined(original), examined(replay)
    levels = {f.title: f.level for f in findings(*runs, verdict, None, ()) if "self-check" in f.title}
    assert {"passed": [], "failed": ["act"], "undecided": ["look"]}[outcome] == list(levels.values())
    performed = {check.name: check for check in checks(*runs, verdict, None)}
    assert {"passed": "passed", "failed": "failed", "undecided": "undetermined"}[outcome] == performed[
        "Self-check of the record"
    ].outcome
    assert selfcheck.sentence(original) == performed["Self-check of the record"].detail
