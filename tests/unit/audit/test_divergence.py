"""Traces compared bit by bit."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repro.audit.divergence import bits, compare_metrics, decimal, ulps
from repro.evidence.model import Metric


def metric(step, value, *, name="loss", dtype="float64", process_key="main"):
    return Metric(process_key=process_key, name=name, step=step, value=value, dtype=dtype, at_seconds=0.0)


def compared(make, left, right, **options):
    ours, theirs = make.original(metrics=tuple(left)), make.original(metrics=tuple(right))
    return compare_metrics(ours, theirs, **options)


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        (1.0, "float64", "3ff0000000000000"),
        (1.0, "float32", "3f800000"),
        (1.0, "float16", "3c00"),
        (1.0, "bfloat16", "3f80"),
        (-0.0, "float32", "80000000"),
        (math.nan, "float32", "7fc00000"),
        (math.inf, "bfloat16", "7f80"),
        (0.1, "float32", "3fb999999999999a"),  # no float32: shown as what it is
        (1e300, "float32", "7e37e43c8800759c"),
        (70000.0, "float16", "40f1170000000000"),
        (3.0, "int64", "4008000000000000"),
    ],
)
def test_bits_are_those_of_the_metrics_own_type(value, dtype, expected):
    assert expected == bits(value, dtype)


def test_equal_traces_are_equal_at_every_step(make):
    (loss,) = compared(make, make.losses(50), make.losses(50))
    assert (loss.equal, loss.first, loss.equal_steps, loss.compared_steps) == (True, None, 50, 50)
    assert (loss.largest_difference, loss.largest_at) == (0.0, None)


def test_the_first_differing_step_is_named_with_both_bits_and_the_distance(make):
    one = make.float32(0.1)
    next_up = math.nextafter(one, 1.0)  # not a float32; take the next float32 by its bits
    left = [metric(s, one, dtype="float32") for s in range(9)]
    right = [replace(m, value=make.float32(0.10000001)) if m.step >= 4 else m for m in left]
    (loss,) = compared(make, left, right)
    assert next_up != one
    assert (loss.first.step, loss.first.left_bits, loss.first.right_bits) == (4, "3dcccccd", "3dccccce")
    assert loss.first.ulps == 1
    assert (loss.first.left_decimal, loss.first.right_decimal) == ("0.1", "0.10000001")
    assert (loss.equal_steps, loss.compared_steps, loss.equal) == (4, 9, False)


def test_the_largest_difference_is_found_where_it_is(make):
    left = [metric(s, 1.0) for s in range(5)]
    right = [metric(s, 1.0 + (0.5 if s == 3 else 0.25 if s else 0.0)) for s in range(5)]
    (loss,) = compared(make, left, right)
    assert (loss.first.step, loss.largest_difference, loss.largest_at) == (1, 0.5, 3)


def test_negative_zero_differs_from_zero_in_its_bits(make):
    (loss,) = compared(make, [metric(0, 0.0)], [metric(0, -0.0)])
    assert (loss.first.step, loss.first.ulps, loss.largest_difference) == (0, 0, 0.0)


def test_not_a_number_equals_itself_and_has_no_distance_to_a_number(make):
    (same,) = compared(make, [metric(0, math.nan)], [metric(0, math.nan)])
    (other,) = compared(make, [metric(0, math.nan)], [metric(0, 1.0)])
    assert same.equal
    assert (other.equal, other.first.ulps, other.largest_difference, other.largest_at) == (False, None, None, 0)


def test_infinities_of_one_sign_are_equal_and_of_two_are_not(make):
    (same,) = compared(make, [metric(0, math.inf)], [metric(0, math.inf)])
    (other,) = compared(make, [metric(0, math.inf)], [metric(0, -math.inf)])
    assert (same.equal, other.equal, other.first.ulps) == (True, False, None)


def test_another_type_is_another_value(make):
    (loss,) = compared(make, [metric(0, 1.0, dtype="float32")], [metric(0, 1.0, dtype="bfloat16")])
    assert (loss.first.left_bits, loss.first.right_bits, loss.first.ulps) == ("3f800000", "3f80", None)
    assert loss.dtypes == ("bfloat16", "float32")


def test_missing_steps_are_counted_on_either_side(make):
    (loss,) = compared(make, [metric(s, 1.0) for s in range(9)], [metric(s, 1.0) for s in (0, 1, 2, 9, 10)])
    assert (loss.missing_left, loss.missing_right, loss.missing_steps) == ((9, 10), (3, 4, 5, 6, 7), 8)
    assert (loss.first, loss.compared_steps, loss.equal) == (None, 3, False)


def test_a_metric_that_one_side_lacks_is_missing_at_every_step(make):
    (loss,) = compared(make, make.losses(7), ())
    assert (loss.left_steps, loss.right_steps, loss.missing_steps, loss.largest_difference) == (7, 0, 7, None)


def test_processes_and_names_are_compared_apart_and_sorted(make):
    left = (*make.losses(3, process_key="main/rank1"), *make.losses(3, process_key="main/rank0"))
    found = compared(make, left, make.losses(3, process_key="main/rank0"))
    assert [(m.process_key, m.equal) for m in found] == [("main/rank0", True), ("main/rank1", False)]


def test_steps_in_any_order_are_sorted(make):
    (loss,) = compared(make, reversed(make.losses(20)), make.losses(20))
    assert loss.equal


def test_a_learning_rate_is_a_function_of_the_step(make):
    left, right = make.rates((0, 0.1), (5, 0.1), (10, 0.01)), make.rates((0, 0.1), (10, 0.01), (12, 0.01))
    (rate,) = compared(make, left, right)
    assert (rate.step_function, rate.equal, rate.compared_steps) == (True, True, 4)


def test_a_learning_rate_that_changes_later_differs_from_the_earlier_change_on(make):
    (rate,) = compared(make, make.rates((0, 0.1), (10, 0.01)), make.rates((0, 0.1), (12, 0.01)))
    assert (rate.first.step, rate.first.left, rate.first.right) == (10, 0.01, 0.1)


def test_a_learning_rate_that_begins_later_is_missing_before(make):
    (rate,) = compared(make, make.rates((0, 0.1), (3, 0.01)), make.rates((2, 0.1), (3, 0.01)))
    assert (rate.first, rate.missing_right, rate.missing_left, rate.compared_steps) == (None, (0,), (), 2)


def test_a_run_cut_short_says_nothing_about_a_learning_rate_after_its_last_change(make):
    left, right = make.rates((0, 0.1)), make.rates((0, 0.1), (10, 0.01))
    (whole,), (short,) = compared(make, left, right), compared(make, left, right, cut_short=True)
    assert (whole.first.step, short.first, short.equal) == (10, None, True)


@pytest.mark.parametrize("name", ["learning_rate.0", "learning_rate.12", "optimizer.1.learning_rate.0"])
def test_every_learning_rate_is_a_step_function(make, name):
    (rate,) = compared(make, [metric(0, 1.0, name=name)], [])
    assert rate.step_function


@pytest.mark.parametrize("name", ["loss", "learning_rate", "my_learning_rate.x", "flearning_rate.0"])
def test_nothing_else_is_a_step_function(make, name):
    (other,) = compared(make, [metric(0, 1.0, name=name)], [])
    assert not other.step_function


def test_no_metrics_on_either_side_is_no_comparison(make):
    assert compared(make, (), ()) == ()


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_the_shortest_decimal_of_a_float32_means_that_float32(value):
    import struct

    assert struct.pack(">f", float(decimal(value, "float32"))) == struct.pack(">f", value)


@given(st.floats(allow_nan=False), st.sampled_from(["float64", "bfloat16", "int64", "float16", "float32"]))
def test_a_decimal_is_always_a_number(value, dtype):
    assert float(decimal(value, dtype)) == pytest.approx(value, rel=1e-2, abs=1e-7) or math.isinf(value)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_neighbours_are_one_ulp_apart(value):
    pattern = int(bits(value, "float32"), 16)
    neighbour = pattern + 1 if (pattern & 0x7FFFFFFF) < 0x7F7FFFFF else pattern - 1
    assert ulps(bits(value, "float32"), f"{neighbour:08x}") == 1


def test_a_million_steps_are_compared_whole(make):
    # Not timed: that it ends, and finds the one step, is the test.
    class Row:
        __slots__ = ("dtype", "name", "process_key", "step", "value")

    def rows(wrong):
        for step in range(1_000_000):
            row = Row()
            row.process_key, row.name, row.dtype = "main", "loss", "float64"
            row.step, row.value = step, 1.0 / (step + 1) + (1e-12 if step == wrong else 0.0)
            yield row

    left, right = make.original(metrics=()), make.original(metrics=())
    object.__setattr__(left, "metrics", tuple(rows(None)))
    object.__setattr__(right, "metrics", tuple(rows(765_432)))
    (loss,) = compare_metrics(left, right)
    assert (loss.first.step, loss.equal_steps, loss.largest_at) == (765_432, 999_999, 765_432)
