"""What part of a command a replay runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from repro.errors import UsageError
from repro.record import injection
from repro.record.excerpt import WHOLE, Excerpt, excerpt
from repro.record.tracing import NOT_CHOSEN


def test_the_agent_and_the_record_are_told_of_it() -> None:
    part = excerpt(8, 3)
    environment, facts = injection.with_agent({}, Path("/events"), None, NOT_CHOSEN, part=part)
    assert ("8", "3") == (environment["REPRO_STEPS"], environment["REPRO_TRACE_OPERATIONS"])
    known = {(fact.topic, fact.name): (fact.value, fact.source) for fact in facts}
    assert ("8", "declared") == known["replay", "steps"]
    assert ("3", "declared") == known["replay", "operations"]


def test_of_a_whole_command_nothing_is_told() -> None:
    assert WHOLE == excerpt(None, None) == Excerpt()
    environment, facts = injection.with_agent({}, Path("/events"), None, NOT_CHOSEN)
    assert not {"REPRO_STEPS", "REPRO_TRACE_OPERATIONS"} & environment.keys()
    assert "replay" not in {fact.topic for fact in facts}


def test_what_is_set_around_a_recorder_is_not_for_its_command() -> None:
    set_outside = {"REPRO_STEPS": "1", "REPRO_TRACE_OPERATIONS": "0", "PATH": "/bin"}
    assert {"PATH": "/bin"} == injection.without_agent(set_outside)


@pytest.mark.parametrize(
    ("steps", "operations", "message"),
    [
        (0, None, "0 is no number of steps"),
        (-3, None, "-3 is no number of steps"),
        (None, -1, "-1 is no step"),
        (4, 4, "step 4 is not among the first 4, which count from 0"),
    ],
)
def test_what_makes_no_sense_is_refused(steps: int | None, operations: int | None, message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        excerpt(steps, operations)
    assert refused.value.hint
