"""Start real interpreters with the agent in them, and read what it wrote."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Optional

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from event_logs import INJECT, OLDEST, Event, bare_environment, read_events

Run = tuple[list[Event], "subprocess.CompletedProcess[str]"]


@pytest.fixture(params=[sys.executable, str(OLDEST)], ids=["current", "oldest"])
def python(request: pytest.FixtureRequest) -> str:
    """Each interpreter that the agent is tested in: ours, and the oldest that is supported."""
    path: str = request.param
    if not os.path.exists(path):
        pytest.skip(f"{path} is not installed")
    return path


@pytest.fixture
def run_agent(tmp_path: Path) -> Callable[..., Run]:
    """Return a function that runs a script under the agent, each time with a fresh folder of events.

    It takes the script's text, and by keyword the interpreter, the entropy document to put back, more environment, more
    arguments, and whether the agent is there at all. Scripts run in the same folder, `tmp_path`.
    """
    return functools.partial(_run_agent, tmp_path)


def _run_agent(
    tmp_path: Path,
    script: str,
    *,
    python: str = sys.executable,
    entropy: Optional[dict[str, Any]] = None,
    env: Optional[dict[str, str]] = None,
    arguments: tuple[str, ...] = (),
    agent: bool = True,
    name: str = "script.py",
) -> Run:
    number = len(list(tmp_path.glob("events.*")))
    events = tmp_path / f"events.{number}"
    events.mkdir()
    (tmp_path / name).write_text(script, encoding="utf-8")
    environment = bare_environment()
    if agent:
        environment.update(REPRO_EVENTS=str(events), PYTHONPATH=str(INJECT))
    if entropy is not None:
        document = tmp_path / f"entropy.{number}.json"
        document.write_text(json.dumps(entropy))
        environment["REPRO_ENTROPY"] = str(document)
    environment.update(env or {})
    finished = subprocess.run(
        [python, name, *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return read_events(events), finished
