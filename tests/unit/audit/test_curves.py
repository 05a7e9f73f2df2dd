"""Curves thinned out and laid out."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repro.audit.curves import HEIGHT, LIMIT, WIDTH, plot, thin


def draw(original, replay=(), *, marker=None, steps=False, last_step=0):
    return plot(original, replay, marker=marker, steps=steps, last_step=last_step)


def test_few_points_stay_as_they_are():
    points = tuple((s, float(s)) for s in range(LIMIT))
    assert thin(points) == points


def test_many_points_keep_both_ends_and_every_spike():
    points = [(s, 1.0) for s in range(100_000)]
    points[54_321], points[54_322], points[77] = (54_321, 9.0), (54_322, -9.0), (77, math.nan)
    kept = thin(points)
    assert len(kept) <= LIMIT
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert {points[54_321], points[54_322]} <= set(kept)
    assert any(math.isnan(value) for _, value in kept)
    assert [step for step, _ in kept] == sorted({step for step, _ in kept})


@given(st.lists(st.floats(allow_nan=False), min_size=7, max_size=80), st.integers(6, 30))
def test_thinning_keeps_the_range(values, limit):
    kept = [value for _, value in thin(list(enumerate(values)), limit)]
    assert len(kept) <= max(limit, 2)
    assert (min(values), max(values)) == (min(kept), max(kept))


def test_equal_curves_are_drawn_by_equal_paths():
    points = [(s, math.sin(s)) for s in range(20)]
    drawn = draw(points, points)
    assert drawn.original == drawn.replay != ""


def test_a_value_that_is_no_number_interrupts_the_line_and_is_marked():
    drawn = draw([(0, 1.0), (1, math.nan), (2, 2.0), (3, math.inf), (4, 1.0)])
    assert drawn.original.count("M") == 3
    assert len(drawn.unfinite) == 2


def test_a_step_function_is_drawn_in_steps_up_to_the_end():
    drawn = draw([(0, 0.1), (50, 0.01)], steps=True, last_step=100)
    assert drawn.original.count("H") == 2
    assert f"H{WIDTH - 12:.1f}" in drawn.original


def test_a_step_function_without_points_is_empty():
    assert draw([], [(0, 1.0)], steps=True, last_step=5).original == ""


def test_the_marker_lies_where_its_step_does():
    assert draw([(0, 1.0), (100, 2.0)], marker=100).marker == f"{WIDTH - 12:.1f}"
    assert draw([(0, 1.0)]).marker is None


def test_a_single_value_is_a_dot_in_the_middle():
    drawn = draw([(7, 3.0)])
    assert drawn.original.endswith("h0.1")
    assert [t.label for t in drawn.x_ticks] == ["7"]


@pytest.mark.parametrize(
    "values",
    [
        [0.0, 0.0],
        [1e308, -1e308],
        [1.7e308, 1.7e308],
        [5e-324, 0.0],
        [1e-300, 1.1e-300],
        [math.nan, math.nan],
        [math.inf, -math.inf],
        [],
        [1e16, 1e16 + 2],
    ],
)
def test_every_range_can_be_drawn(values):
    drawn = draw(list(enumerate(values)))
    numbers = [float(n) for n in re.findall(r"-?\d+\.\d+", drawn.original)]
    assert all(-1 <= n <= max(WIDTH, HEIGHT) + 1 for n in numbers)


@given(st.lists(st.tuples(st.integers(0, 2**53), st.floats(width=64)), max_size=12), st.booleans())
def test_any_trace_can_be_drawn(points, steps):
    drawn = draw(sorted(points, key=lambda p: p[0]), steps=steps, last_step=2**53)
    assert re.fullmatch(r"[MLHVh0-9.\- ]*", drawn.original)
    for tick in (*drawn.x_ticks, *drawn.y_ticks):
        assert -1 <= float(tick.at) <= max(WIDTH, HEIGHT) + 1


@pytest.mark.parametrize("top", [1, 7, 60, 719, 1_000_000])
def test_ticks_are_round_and_a_few(top):
    labels = [t.label for t in draw([(0, 0.0), (top, 1.0)]).x_ticks]
    assert 2 <= len(labels) <= 8
    assert labels[0] == "0"
    assert all("." not in label for label in labels)
