"""What every executor must do, found by listing the plug folder: a new one is tested by being there."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any

import pytest

from repro import plugs
from repro.evidence.model import CodeFile, Fact, Record, Run
from repro.evidence.store import Store
from repro.replay import executors, machine, plan, workspace
from repro.replay.conditions import Condition
from repro.replay.data import Inspection
from repro.replay.executors import Executor, Site

NAMES = plugs.names(executors)


def _record(root: Path, *facts: tuple[str, str, str]) -> Record:
    run = Run(
        run_id="0123456789ab",
        replay_of=None,
        argv=("python", "train.py"),
        root=str(root),
        working_directory=".",
        started_at="2026-11-20T10:00:00.000000Z",
        ended_at="2026-11-20T10:00:10.000000Z",
        wall_seconds=10.0,
        cpu_seconds=9.0,
        peak_memory_bytes=1000,
        status="completed",
        exit_code=0,
        signal=None,
        recorder_version="0.1.0",
    )
    rows = tuple(Fact(topic=topic, name=name, value=value, source="observed") for topic, name, value in facts)
    return Record(run=run, facts=rows)


def _plan(record: Record) -> plan.Plan:
    return plan.make(record, Inspection(), machine.Machine(), locked={}, imports=frozenset())


@pytest.fixture(params=NAMES)
def executor(request: pytest.FixtureRequest) -> Any:
    return plugs.load(executors, request.param)


def test_there_are_executors() -> None:
    assert {"host", "venv"} <= set(NAMES)


def test_it_has_the_functions_of_the_protocol_with_their_parameters(executor: Any) -> None:
    for name in ("unavailable", "conditions", "prepare"):
        promised = list(inspect.signature(getattr(Executor, name)).parameters)[1:]
        assert promised == list(inspect.signature(getattr(executor, name)).parameters)


def test_it_is_documented_and_imports_no_other_executor(executor: Any) -> None:
    assert executor.__doc__
    source = Path(executor.__file__).read_text()
    others = [name for name in NAMES if f"executors.{name}" in source or f"executors import {name}" in source]
    assert [] == others


def test_it_says_whether_it_can_be_used_here(executor: Any) -> None:
    answer = executor.unavailable()
    assert answer is None or len(answer) > 10


def test_conditions_are_told_without_building_anything(executor: Any, tmp_path: Path) -> None:
    if executor.unavailable():
        pytest.skip(f"{executor.__name__}: {executor.unavailable()}")
    gone = (
        ("environment", "python_version", "3.3.1"),
        ("environment", "executable", str(tmp_path / "gone" / "python")),
    )
    found = executor.conditions(_plan(_record(tmp_path, *gone)), machine.Machine())
    assert all(isinstance(condition, Condition) for condition in found)
    stops = [condition for condition in found if condition.effect == "impossible"]
    assert stops, "a Python that is not there cannot be run"
    assert all(stop.note and stop.hint for stop in stops)
    assert [] == os.listdir(tmp_path)


def test_it_prepares_a_site_for_a_command_without_python(executor: Any, tmp_path: Path) -> None:
    if executor.unavailable():
        pytest.skip(f"{executor.__name__}: {executor.unavailable()}")
    store = Store(tmp_path / "store")
    digest = store.objects.put(b"x")
    record = _record(tmp_path / "project")
    code = CodeFile(path="a", kind="file", mode=0o644, size_bytes=1, sha256=digest, state="plain")
    chosen = _plan(Record(run=record.run, code_files=(code,)))
    assert [] == [c for c in executor.conditions(chosen, machine.Machine()) if c.effect == "impossible"]
    place = workspace.build(chosen, store.objects, progress=print)
    try:
        site = executor.prepare(chosen, place, store, machine.Machine(), print)
        assert isinstance(site, Site)
        assert callable(site.start)
        assert site.isolation, "what is not isolated must be said"
        assert all(sentence.endswith(".") for sentence in site.isolation)
        assert {"replay", "environment"} >= {fact.topic for fact in site.facts}
        site.close()
    finally:
        place.remove()
