from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from repro.errors import UsageError
from repro.evidence.model import Fact, Record
from repro.record import assemble, injection, tracing
from repro.record.capture import Findings
from repro.record.eventlog import Events
from repro.record.tracing import NOT_CHOSEN, Tracing

IDENTITY = assemble.Identity(
    run_id="0" * 12,
    replay_of=None,
    argv=("train",),
    root="/x",
    working_directory=".",
    recorder_version="0",
    tolerances=(),
)
ENDED = assemble.Ended(
    returncode=0,
    relayed=frozenset(),
    started_at=0.0,
    ended_at=1.0,
    wall_seconds=1.0,
    cpu_seconds=1.0,
    peak_memory_bytes=1,
)


def _record(*facts: Fact) -> Record:
    return replace(assemble.assemble(IDENTITY, ENDED, Events(), Findings()), facts=facts)


@pytest.mark.parametrize(
    ("every", "percent", "variables", "said"),
    [
        (None, None, {}, {}),
        (16, None, {"REPRO_TRACE_EVERY": "16"}, {"every": "16"}),
        (0, None, {"REPRO_TRACE_EVERY": "0"}, {"every": "off"}),
        (None, 2.5, {"REPRO_TRACE_BUDGET": "0.025"}, {"budget": "0.025"}),
        (1, 100, {"REPRO_TRACE_EVERY": "1", "REPRO_TRACE_BUDGET": "1.0"}, {"every": "1", "budget": "1.0"}),
    ],
)
def test_a_choice_is_told_to_the_agent_kept_and_given_to_the_replay(every, percent, variables, said) -> None:
    choice = tracing.chosen(every, percent)
    environment, facts = injection.with_agent({}, Path("/e"), None, choice)
    assert variables == {name: value for name, value in environment.items() if name.startswith("REPRO_TRACE")}
    assert said == {fact.name: fact.value for fact in facts if fact.topic == "trace"}
    assert choice == tracing.recorded(_record(*facts))


@pytest.mark.parametrize(
    ("every", "percent", "name"),
    [
        (-1, None, "every"),
        (True, None, "every"),
        (1.5, None, "every"),
        ("4", None, "every"),
        (2**31, None, "every"),
        (None, 0, "budget"),
        (None, -1.0, "budget"),
        (None, 101, "budget"),
        (None, True, "budget"),
        (None, float("nan"), "budget"),
        (None, "1%", "budget"),
    ],
)
def test_a_choice_that_cannot_be_followed(every, percent, name) -> None:
    with pytest.raises(UsageError, match=f"trace-{name}"):
        tracing.chosen(every, percent)


def test_what_one_choice_leaves_open_another_fills() -> None:
    assert Tracing(every=0, budget=0.5) == Tracing(every=0).over(Tracing(every=8, budget=0.5))
    assert NOT_CHOSEN == NOT_CHOSEN.over(NOT_CHOSEN)


@pytest.mark.parametrize(("name", "value"), [("every", "often"), ("budget", "little")])
def test_a_record_that_says_what_we_never_write_leaves_the_choice_to_the_agent(name: str, value: str) -> None:
    assert NOT_CHOSEN == tracing.recorded(_record(Fact(topic="trace", name=name, value=value, source="declared")))


def test_the_variables_of_an_outer_recording_are_not_the_user_s() -> None:
    outer = {"REPRO_TRACE_EVERY": "1", "REPRO_TRACE_BUDGET": "0.5", "HOME": "/h"}
    assert {"HOME": "/h"} == injection.without_agent(outer)
