"""Where two training traces part, and of what kind the first difference is."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from repro.audit.trace.causes import Cause
from repro.audit.trace.fingerprints import compare_fingerprints
from repro.audit.trace.sketches import relative
from repro.audit.trace.words import drift_phrase, first_sentence, short_phrases, trace_evidence, unused_phrases
from repro.evidence.model import Process

RANKS = ("main/rank0", "main/rank1")


@pytest.fixture
def run(make):
    return make.traced(make.original())


def first(left, right):
    found = compare_fingerprints(left, right).first
    assert found is not None
    return found


def without(record, step=None, field=None, **where):
    def kept(row):
        other = any(getattr(row, name) != value for name, value in where.items())
        return other or (step is not None and row.step != step) or (field is not None and row.field != field)

    return replace(record, fingerprints=tuple(filter(kept, record.fingerprints)))


def several(make, *processes):
    ranks = tuple(
        Process(
            process_key=key,
            parent_key="main",
            pid=10 + rank,
            argv=("python",),
            executable="python",
            python_version="3.11.7",
            rank=rank,
            world_size=len(processes),
            started_at="2026-11-20T14:03:22.200000Z",
            ended_at=None,
        )
        for rank, key in enumerate(processes)
    )
    record = make.original()
    return make.traced(replace(record, processes=(*record.processes, *ranks)), *processes)


def test_a_trace_is_equal_to_itself(run):
    found = compare_fingerprints(run, run)
    (anchor,) = found.anchors
    assert (found.equal, found.first, anchor.unused, anchor.drift) == (True, None, (), ())
    assert (anchor.compared_steps, anchor.equal_steps, anchor.missing_steps, anchor.same_schedule) == (11, 11, 0, True)
    assert trace_evidence(found) == "189 fingerprints of 3 tensors at 11 traced steps, all of them equal"


def test_runs_without_a_trace_have_nothing_to_compare(make):
    found = compare_fingerprints(make.original(), make.replay())
    assert (found.equal, found.anchors, found.left_traced, trace_evidence(found)) == (True, (), False, "")


@pytest.mark.parametrize(
    ("field", "step", "cause"),
    [
        ("order", 5, Cause.SAMPLE_ORDER),
        ("batch", 5, Cause.BATCH_CONTENT),
        ("weight", 5, Cause.WEIGHTS_WRITTEN),
        ("gradient", 5, Cause.GRADIENT_NUMERICS),
        ("hyperparameter", 5, Cause.HYPERPARAMETER),
        ("parameter", 5, Cause.OPTIMIZER_NUMERICS),
        ("state", 5, Cause.OPTIMIZER_STATE),
        ("order", 16, Cause.SAMPLE_ORDER),
        ("batch", 16, Cause.BATCH_CONTENT),
        ("gradient", 16, Cause.UNTRACED),
        ("parameter", 16, Cause.UNTRACED),
        ("gradient", 0, Cause.UNTRACED),
    ],
)
def test_each_kind_of_difference_is_told_by_what_was_equal_before(make, run, field, step, cause):
    found = first(run, make.altered(run, step, field))
    assert (found.step, found.what.field, found.what.differing, found.cause) == (step, field, 1, cause)
    assert found.adjacent == (step < 9)
    assert found.last_equal == (None if step == 0 else 8 if step == 16 else step - 1)


def test_what_differs_first_in_causal_order_is_the_difference_and_the_rest_follows(make, run):
    other = run
    for field, places in (("state", (0, 1, 2)), ("parameter", (1, 2)), ("gradient", (0, 1, 2)), ("batch", ())):
        other = make.altered(other, 6, field, *places)
    found = first(run, other)
    assert (found.what.field, found.what.place, found.cause) == ("batch", 1, Cause.BATCH_CONTENT)
    assert [(d.field, d.differing, d.of) for d in found.also] == [
        ("gradient", 3, 3),
        ("parameter", 2, 3),
        ("state", 3, 3),
    ]
    assert compare_fingerprints(run, other).anchors[0].equal_steps == 10


def test_tensors_are_named_with_shape_and_type(make, run):
    found = first(run, make.altered(run, 7, "gradient", 0, 2))
    assert [(t.name, t.shape, t.dtype) for t in found.what.tensors] == [
        ("0.weight", "[64, 3]", "float32"),
        ("6.weight", "[10, 64]", "bfloat16"),
    ]
    assert (found.what.differing, found.what.of) == (2, 3)
    assert first_sentence(found).startswith(
        "The runs part at step 7 of optimizer.0 in main, in the gradients (2 of 3 tensors: 0.weight [64, 3] float32 "
        "and 1 more): batch and weights were equal, and other gradients were made of them: by another number of threads"
    )


def test_the_list_that_stands_at_a_step_names_its_tensors(make, run):
    later = make.tensors((("head.weight", "[5]", "float64"), *(("x", "[1]", "int8"),) * 2), step=6)
    grown = replace(run, traced_tensors=(*later, *run.traced_tensors))
    assert first(grown, make.altered(grown, 5, "gradient")).what.tensors[0].name == "0.weight"
    assert first(grown, make.altered(grown, 6, "gradient")).what.tensors[0].name == "head.weight"


def test_other_shapes_are_a_structural_difference_and_other_names_are_none(make, run):
    rows = (("0.weight", "[32, 3]", "float32"), ("0.bias", "[64]", "float32"), ("6.weight", "[10, 64]", "bfloat16"))
    found = first(run, replace(run, traced_tensors=make.tensors(rows)))
    assert (found.step, found.what.field, found.what.place, found.cause) == (0, "tensors", None, Cause.STRUCTURE)
    assert (found.what.differing, found.what.of, found.what.tensors[0].shape) == (1, 3, "[64, 3] / [32, 3]")
    renamed = replace(run, traced_tensors=tuple(replace(row, name=f"module.{row.name}") for row in run.traced_tensors))
    assert compare_fingerprints(run, renamed).equal


def test_a_missing_tensor_is_a_structural_difference(make, run):
    fewer = replace(run, traced_tensors=run.traced_tensors[:2])
    found = first(run, fewer)
    assert (found.cause, found.what.differing, found.what.of) == (Cause.STRUCTURE, 1, 3)
    assert first(fewer, run) == found


def test_other_weights_at_the_first_step_are_initial_weights(make, run):
    row = next(row for row in run.fingerprints if (row.step, row.field) == (1, "weight"))
    known = replace(run, fingerprints=(*run.fingerprints, replace(row, step=0, place=99)))
    assert first(known, make.altered(known, 0, "weight")).cause is Cause.INITIAL_WEIGHTS
    assert first(known, make.altered(known, 0, "gradient")).cause is Cause.GRADIENT_NUMERICS


def test_a_random_state_that_the_training_draws_from_is_where_the_runs_part(make, run):
    other = make.altered(make.altered(run, 5, "rng.torch"), 5, "gradient", 0, 1, 2)
    found = first(run, other)
    assert (found.what.field, found.cause, [d.field for d in found.also]) == (
        "rng.torch",
        Cause.RANDOM_STATE,
        ["gradient"],
    )


def test_a_gradient_is_not_blamed_on_the_arithmetic_where_no_batch_was_told(make, run):
    record = without(run, field="batch")
    assert first(record, make.altered(record, 5, "gradient")).cause is Cause.UNTOLD_INPUT
    ranks = without(several(make, *RANKS), field="batch", process_key=RANKS[1])
    alone = make.altered(ranks, 5, "gradient", process_key=RANKS[0])
    assert first(ranks, alone).cause is Cause.GRADIENT_NUMERICS
    assert not first(ranks, make.altered(alone, 5, "parameter", process_key=RANKS[1])).shared
    shared = make.altered(alone, 5, "gradient", process_key=RANKS[1])
    assert first(ranks, shared).shared
    assert first(ranks, shared).cause is Cause.UNTOLD_INPUT
    assert "Ranks share their gradients: it may have come in through any of these." in first_sentence(
        first(ranks, shared)
    )


def test_unused_states_of_many_ranks_are_one_clause(make):
    record = several(make, *RANKS)
    other = make.altered(record, 5, "rng.python")
    assert unused_phrases(compare_fingerprints(record, other)) == (
        "the state of Python's random generator differs from step 5 of optimizer.0 in main/rank0, main/rank1 on, to no "
        "effect on the training",
    )


def test_where_no_optimizer_steps_other_weights_come_of_the_update(make):
    record = make.traced(make.original(), anchor="backward")
    rows = {(row.step, row.field): row for row in record.fingerprints}
    told = [row for row in record.fingerprints if row.field not in ("parameter", "state", "hyperparameter")]
    told += [replace(rows[1, "weight"], step=step) for step in (0, 16, 32)]
    record = replace(record, fingerprints=tuple(told))
    causes = {step: first(record, make.altered(record, step, "weight")).cause for step in (0, 3, 16)}
    assert causes == {0: Cause.INITIAL_WEIGHTS, 3: Cause.WEIGHT_UPDATE, 16: Cause.UNTRACED}
    assert first(record, make.altered(record, 16, "gradient")).cause is Cause.GRADIENT_NUMERICS


def test_what_is_of_no_tensor_is_counted_by_its_parts(make, run):
    rows = tuple(replace(r, words=r.words * 2) if r.field == "hyperparameter" else r for r in run.fingerprints)
    groups = replace(run, fingerprints=rows)
    sentence = first_sentence(first(groups, make.altered(groups, 4, "hyperparameter", 1)))
    assert "in the optimizer's settings (1 of 2 parameter groups): the optimizer was set otherwise" in sentence


def test_a_random_state_that_leads_to_a_later_difference_is_where_the_runs_part(make, run):
    other = run
    for step in (4, 5, 6, 7):
        other = make.altered(other, step, "rng.numpy")
    found = first(run, make.altered(other, 6, "batch"))
    assert (found.step, found.what.field, found.effect_step, found.effect_field) == (4, "rng.numpy", 6, "batch")
    assert "the training drew from it; its first effect shows at step 6, in the batch" in first_sentence(found)


def test_a_random_state_with_no_effect_is_kept_apart(make, run):
    other = run
    for step in (5, 6, 7):
        other = make.altered(other, step, "rng.python")
    found = compare_fingerprints(run, other)
    (anchor,) = found.anchors
    assert (found.first, found.equal, anchor.equal_steps) == (None, True, 11)
    assert [(s.field, s.first_step, s.steps) for s in anchor.unused] == [("rng.python", 5, 3)]
    assert unused_phrases(found) == (
        "the state of Python's random generator differs from step 5 of optimizer.0 in main on, to no effect on the "
        "training",
    )


def test_a_generator_that_nobody_moves_is_not_blamed_for_what_differs_later(make, run):
    def elsewhere(row):
        return replace(row, words="0123456789abcdef") if row.field == "rng.python" else row

    other = replace(run, fingerprints=tuple(map(elsewhere, run.fingerprints)))
    found = compare_fingerprints(run, make.altered(other, 5, "weight", 1))
    assert (found.first.step, found.first.what.field, found.first.last_equal) == (5, "weight", 4)
    assert [s.field for s in found.anchors[0].unused] == ["rng.python"]


def test_a_random_state_that_agrees_again_is_not_blamed(make, run):
    other = make.altered(make.altered(run, 2, "rng.numpy"), 6, "gradient")
    found = compare_fingerprints(run, other)
    assert (found.first.step, found.first.what.field) == (6, "gradient")
    assert [s.field for s in found.anchors[0].unused] == ["rng.numpy"]


def test_a_random_state_that_differs_only_afterwards_is_a_consequence(make, run):
    other = make.altered(make.altered(run, 3, "batch"), 4, "rng.torch")
    found = compare_fingerprints(run, other)
    assert (found.first.step, found.first.what.field, found.anchors[0].unused) == (3, "batch", ())
    assert found.anchors[0].equal_steps == 9


def test_a_random_state_beside_another_batch_is_told_as_a_possible_reason(make, run):
    found = first(run, make.altered(make.altered(run, 3, "batch"), 3, "rng.torch"))
    assert "the state of torch's random generator differs too, which may be why" in first_sentence(found)


def test_what_rounding_absorbs_is_said(make, run):
    moment = first(run, make.altered(run, 4, "state", 1))
    assert (moment.cause, moment.absorbed) == (Cause.OPTIMIZER_STATE, True)
    assert "the weights never differ, for rounding absorbed it" in first_sentence(moment)
    assert not first(run, make.altered(make.altered(run, 4, "state"), 32, "parameter")).absorbed
    assert not first(
        without(run, field="parameter"), without(make.altered(run, 4, "state"), field="parameter")
    ).absorbed


def test_what_lies_in_untraced_steps_is_said(make, run):
    sentence = first_sentence(first(run, make.altered(run, 16, "gradient")))
    assert sentence.startswith("The runs are first seen to differ at step 16 of optimizer.0 in main, in the gradients")
    assert sentence.endswith(
        "They were equal at step 8; the steps between were not traced: `--trace-every 1` traces every step."
    )
    unknown = first_sentence(first(run, make.altered(run, 0, "gradient")))
    assert unknown.endswith("The weights before the first step are not told, and may have been others.")


def test_the_earliest_rank_wins_and_it_is_said_where_it_shows(make):
    record = several(make, *RANKS)
    other = make.altered(record, 5, "gradient", process_key=RANKS[1])
    other = make.altered(make.altered(other, 6, "gradient", process_key=RANKS[0]), 6, "order", process_key=RANKS[0])
    found = first(record, other)
    assert (found.process_key, found.rank, found.step, found.shows_in) == (RANKS[1], 1, 5, (RANKS[1],))
    assert found.traced_in == RANKS
    assert "in rank 1 (main/rank1)" in first_sentence(found)
    assert "It shows in main/rank1, of 2 processes that traced this step." in first_sentence(found)


def test_of_one_step_the_first_field_in_causal_order_wins_over_the_ranks(make):
    record = several(make, *RANKS)
    other = make.altered(record, 5, "gradient", process_key=RANKS[0])
    found = first(record, make.altered(other, 5, "batch", process_key=RANKS[1]))
    assert (found.rank, found.what.field, found.shows_in) == (1, "batch", RANKS)
    assert "It shows in every process that traced this step, 2 in all." in first_sentence(found)


def test_of_two_optimizers_the_times_decide(make):
    record = make.traced(make.original())
    second = make.fingerprints(anchor="optimizer.1", late=20.0)
    record = replace(record, fingerprints=(*record.fingerprints, *second))
    other = make.altered(record, 16, "gradient", anchor="optimizer.0")
    found = first(record, make.altered(other, 2, "gradient", anchor="optimizer.1"))
    assert (found.anchor, found.step) == ("optimizer.0", 16)


def test_steps_and_fields_of_one_side_count_under_one_schedule(make, run):
    found = compare_fingerprints(run, without(without(run, step=32), step=3, field="state"))
    (anchor,) = found.anchors
    assert (found.equal, found.first, anchor.missing_steps, anchor.missing_right) == (False, None, 1, (32,))
    assert anchor.missing_fields == ("state at step 3",)
    assert short_phrases(found) == (
        "the trace of optimizer.0 in main has 11 steps in the original and 10 in the replay",
        "one side alone traced state at step 3 of optimizer.0 in main",
    )


def test_another_schedule_or_none_leaves_steps_out_without_a_word(make, run):
    other = replace(without(run, step=32), settings=make.traced(make.original(), every="64").settings)
    assert compare_fingerprints(run, other).equal
    assert compare_fingerprints(run, replace(run, fingerprints=())).equal


def test_a_generator_that_one_side_alone_has_is_not_missing(run):
    assert compare_fingerprints(run, without(run, field="rng.numpy")).equal


def test_the_distance_of_the_weights_is_told_where_sketches_differ(make, run):
    def moved(row):
        if row.field != "sketch" or row.step < 5:
            return row
        return replace(row, words=make.sketch(*(3.0 + i + 0.01 * row.step + 1e-6 * row.step for i in range(8))))

    other = replace(make.altered(run, 5, "parameter"), fingerprints=tuple(map(moved, run.fingerprints)))
    (anchor,) = compare_fingerprints(run, other).anchors
    assert [d.step for d in anchor.drift] == [5, 32]
    assert anchor.drift[0].relative == pytest.approx(
        5e-6 * math.sqrt(8) / math.sqrt(sum((3.05 + i) ** 2 for i in range(8)))
    )
    assert drift_phrase(anchor) == (
        "about 7.2e-07 of their norm after step 5, about 4.4e-06 of their norm after step 32"
    )


def test_a_distance_that_is_no_number_is_not_told_as_one(make):
    ones = make.sketch(*[1.0] * 8)
    assert relative(ones, ones) == 0.0
    assert relative(make.sketch(*[0.0] * 8), make.sketch(*[0.0] * 8)) == 0.0
    assert relative(ones, make.sketch(math.nan, *[1.0] * 7)) is None
    assert relative(ones, make.sketch(math.inf, *[1.0] * 7)) is None
    assert relative(ones, "-" * 16) is None
    assert relative(make.sketch(*[1e307] * 8), make.sketch(*[1e306] * 8)) == pytest.approx(0.9 / math.sqrt(0.505))


def test_a_gradient_that_one_side_lacks_differs(make, run):
    rows = tuple(
        replace(row, words="-" * 16 + row.words[16:]) if (row.step, row.field) == (4, "gradient") else row
        for row in run.fingerprints
    )
    found = first(run, replace(run, fingerprints=rows))
    assert (found.step, found.what.field, found.what.differing) == (4, "gradient", 1)


@st.composite
def one_word(draw, record):
    """One fingerprint of a record, and another value for it."""
    rows = [row for row in record.fingerprints if row.field != "sketch"]
    row = draw(st.sampled_from(rows))
    place = draw(st.integers(0, len(row.words) // 16 - 1))
    value = draw(st.integers(0, 2**64 - 1).map(lambda number: f"{number:016x}"))
    return row, place, value


def with_word(record, row, place, value):
    words = row.words[: 16 * place] + value + row.words[16 * (place + 1) :]
    return replace(record, fingerprints=tuple(replace(r, words=words) if r == row else r for r in record.fingerprints))


UNTIL_DONE = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@UNTIL_DONE
@given(data=st.data())
def test_one_word_changed_anywhere_is_found_there_and_nowhere_else(make, data):
    record = several(make, *RANKS)
    row, place, value = data.draw(one_word(record))
    other = with_word(record, row, place, value)
    found = compare_fingerprints(record, other)
    if value == row.words[16 * place : 16 * (place + 1)]:
        assert found.equal
    elif row.field.startswith("rng."):
        unused = [(a.process_key, s.field, s.first_step, s.steps) for a in found.anchors for s in a.unused]
        assert (found.first, unused) == (None, [(row.process_key, row.field, row.step, 1)])
    else:
        first = found.first
        assert (first.process_key, first.step, first.what.field) == (row.process_key, row.step, row.field)
        assert (first.what.place, first.what.differing, first.also) == (row.place, 1, ())
        named = [t.name for t in first.what.tensors]
        assert named == ([record.traced_tensors[place].name] if len(row.words) > 16 else [])


@UNTIL_DONE
@given(data=st.data())
def test_sides_and_the_order_of_rows_bear_on_nothing(make, data):
    record = several(make, *RANKS)
    other = record
    for _ in range(data.draw(st.integers(0, 4))):
        other = with_word(other, *data.draw(one_word(other)))
    if data.draw(st.booleans()):
        other = without(other, step=data.draw(st.sampled_from([0, 3, 32])))
    found, mirrored = compare_fingerprints(record, other), compare_fingerprints(other, record)
    assert mirrored.first == found.first
    assert mirrored.equal == found.equal
    assert [a.unused for a in mirrored.anchors] == [a.unused for a in found.anchors]
    assert [a.missing_left for a in mirrored.anchors] == [a.missing_right for a in found.anchors]
    shuffle = random.Random(data.draw(st.integers(0, 9))).sample
    mixed = replace(
        other,
        fingerprints=tuple(shuffle(other.fingerprints, len(other.fingerprints))),
        traced_tensors=tuple(shuffle(other.traced_tensors, len(other.traced_tensors))),
    )
    assert compare_fingerprints(record, mixed) == found
