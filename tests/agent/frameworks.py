"""Run scripts with and without the agent, and read what it told: for the tests of hyperparameters and frameworks."""

from __future__ import annotations

import re
from typing import Any, Callable, Optional

import pytest
from event_logs import INJECT, ROOT, Event, of_kind

FRAMEWORKS = ROOT / "build" / "frameworks"
"""What `requirements/frameworks.txt` holds."""

_OF_THE_CLOCK = re.compile(r"^\[\d{4}-\d\d-\d\d [\d:,]+\]", re.MULTILINE)
"""What begins Hydra's own lines."""


def told(events: list[Event], source: str) -> dict[str, str]:
    """Return the hyperparameters of a source, name to value as last told; one told twice unchanged fails."""
    found: dict[str, str] = {}
    for event in of_kind(events, "hyperparameter"):
        if event["source"] == source:
            assert found.get(event["name"]) != event["value"]
            found[event["name"]] = event["value"]
    return found


def series(events: list[Event]) -> dict[str, dict[int, float]]:
    """Return the metrics: name to step to value. A step told twice fails."""
    found: dict[str, dict[int, float]] = {}
    for event in of_kind(events, "metric"):
        steps = found.setdefault(event["name"], {})
        assert event["step"] not in steps
        steps[event["step"]] = float.fromhex(event["value"])
    return found


def gaps(events: list[Event]) -> list[tuple[str, str]]:
    """Return the subject and reason of each gap."""
    return [(gap["subject"], gap["reason"]) for gap in of_kind(events, "gap")]


def run_beside(
    run_agent: Callable[..., Any],
    script: str,
    *arguments: str,
    library: Optional[str] = None,
    env: Optional[dict[str, str]] = None,
    status: int = 0,
    missed: tuple[str, ...] = (),
    **options: Any,
) -> tuple[list[Event], str]:
    """Run a script with the agent and without; both must write the same and end the same.

    Gaps must be of the subjects `missed`, and of no other.

    Returns:
        The events, and what it wrote to its standard output.
    """
    if library is not None and not (FRAMEWORKS / library).exists():
        pytest.skip(f"frameworks: {library} is not installed")
    path = str(FRAMEWORKS) if library else ""
    options["arguments"] = arguments
    events, finished = run_agent(script, env=dict(env or {}, PYTHONPATH=f"{INJECT}:{path}"), **options)
    _, bare = run_agent(script, env=dict(env or {}, PYTHONPATH=path), agent=False, **options)
    written = [_OF_THE_CLOCK.sub("", text) for text in (finished.stdout, finished.stderr)]
    expected = [_OF_THE_CLOCK.sub("", text) for text in (bare.stdout, bare.stderr)]
    assert (expected, status) == (written, finished.returncode)
    assert missed == tuple(subject for subject, _ in gaps(events)), gaps(events)
    return events, written[0]
