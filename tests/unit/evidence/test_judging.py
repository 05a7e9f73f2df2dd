"""Which metrics decide nothing, and which are called like times."""

from __future__ import annotations

import pytest

from repro.evidence.judging import is_unjudged, limits, looks_like_time, patterns, without_limit
from repro.evidence.model import Tolerance

LOSS = Tolerance(metric="loss", absolute=0.5)


def test_a_declaration_is_a_tolerance_without_a_limit() -> None:
    rows = (LOSS, without_limit("epoch_seconds"), without_limit("*_ms"))
    assert ({"loss": 0.5}, ("*_ms", "epoch_seconds")) == (limits(rows), patterns(rows))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("epoch_seconds", True),
        ("epoch_seconds#2", True),
        ("tensorboard/epoch_seconds", False),
        ("step_ms", True),
        ("a/b/step_ms#3", True),
        ("loss", False),
        ("log[1].csv:time", True),
        ("log1.csv:time", False),
        ("log.csv:loss{split=val}", True),
    ],
)
def test_names_and_patterns(name: str, expected: bool) -> None:
    declared = ("epoch_seconds", "*_ms", "log[[]1].csv:time", "log.csv:loss{split=val}")
    assert expected == is_unjudged(name, map(without_limit, declared))


def test_a_limit_for_the_very_name_counts_more_than_a_pattern() -> None:
    rows = (LOSS, without_limit("*"))
    assert [False, True] == [is_unjudged(name, rows) for name in ("loss", "accuracy")]


@pytest.mark.parametrize(
    "name",
    [
        *("epoch_seconds", "time", "epoch_time", "epochTime", "train/step_ms", "results.csv:time", "time/fps", "eta"),
        *("train_samples_per_second", "tokens_per_sec", "a.json:start_time", "train_runtime#2", "log.csv:time{rank=1}"),
        *("images/s_per_second", "trained_at", "createdAt", "wall_time", "results.json:date", "throughput"),
    ],
)
def test_called_like_a_time(name: str) -> None:
    assert looks_like_time(name)


@pytest.mark.parametrize(
    "name",
    [
        "loss",
        "time_to_event_mae",
        "timesteps",
        "items",
        "val/accuracy",
        "times.csv:loss",
        "rms",
        "update",
        "recall_at_5",
        "",
    ],
)
def test_not_called_like_a_time(name: str) -> None:
    assert not looks_like_time(name)
