"""What a mode of determinism sets before the command starts: only what the user has not set himself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from repro.record import determinism, eventlog, injection
from repro.record.capture import determinism as capture
from repro.record.eventlog.kinds import Determinism, Events
from repro.record.tracing import Tracing

TRAIN = ("python", "train.py")


def _facts(found: Any) -> dict[str, str]:
    assert {"determinism"} == {fact.topic for fact in found}
    return {fact.name: fact.value for fact in found}


def test_off_sets_nothing() -> None:
    environment, facts = determinism.prepared({"PATH": "/bin"}, TRAIN, "off")
    assert {"PATH": "/bin"} == environment
    assert {"mode": "off"} == _facts(facts)


def test_what_the_user_has_set_is_kept_and_said() -> None:
    own = {"NCCL_ALGO": "Tree", "OMP_NUM_THREADS": "3", "CUBLAS_WORKSPACE_CONFIG": ""}
    environment, facts = determinism.prepared(own, TRAIN, "strict")
    assert ("Tree", "3", ":4096:8") == tuple(environment[name] for name in own)
    assert "MKL_NUM_THREADS" not in environment, "MKL heeds the other one"
    told = _facts(facts)
    assert "NCCL_ALGO=Tree, OMP_NUM_THREADS=3" == told["variables_kept"]
    assert told["variables_set"].startswith("CUBLAS_WORKSPACE_CONFIG=:4096:8, ")
    assert "NCCL_ALGO" not in told["variables_set"]


def test_hyper_threads_of_one_core_count_once(tmp_path: Path) -> None:
    usable = sorted(os.sched_getaffinity(0))
    for number in usable:
        folder = tmp_path / f"cpu{number}" / "topology"
        folder.mkdir(parents=True)
        (folder / "physical_package_id").write_text("0\n")
        (folder / "core_id").write_text("7\n")
    environment, _ = determinism.prepared({}, TRAIN, "warn", cpus=tmp_path)
    assert ("1", "1") == (environment["OMP_NUM_THREADS"], environment["MKL_NUM_THREADS"])
    environment, _ = determinism.prepared({}, TRAIN, "warn", cpus=tmp_path / "none")
    assert str(len(usable)) == environment["OMP_NUM_THREADS"]


@pytest.mark.parametrize(
    "argv", [("torchrun", "t.py"), ("/v/bin/python", "-m", "torch.distributed.run", "t.py"), ("/usr/bin/mpirun", "x")]
)
def test_a_launcher_divides_the_cores_itself(argv: tuple[str, ...]) -> None:
    environment, facts = determinism.prepared({}, argv, "strict")
    assert "OMP_NUM_THREADS" not in environment
    assert _facts(facts)["threads"].startswith("left to ")


def test_a_replay_runs_with_the_recorded_variables() -> None:
    environment, facts = determinism.prepared({"NCCL_ALGO": "Ring"}, TRAIN, "strict", "0123456789ab")
    assert {"NCCL_ALGO": "Ring"} == environment
    assert {"mode": "strict"} == _facts(facts)


def test_the_agent_is_told_the_mode_and_a_recording_inside_starts_afresh(tmp_path: Path) -> None:
    for mode, told in (("off", None), ("warn", "warn")):
        environment, _ = injection.with_agent({}, tmp_path, None, Tracing(), determinism.mode_of(mode))
        assert told == environment.get("REPRO_DETERMINISM")
        assert "REPRO_DETERMINISM" not in injection.without_agent(environment)


@pytest.mark.parametrize(("text", "mode"), [("strict", "strict"), ("warn", "warn"), (None, "off"), ("else", "off")])
def test_the_mode_of_a_record(text: str | None, mode: str) -> None:
    assert mode == determinism.mode_of(text)


def test_changes_and_operations_are_numbered_facts(context: Any, tmp_path: Path) -> None:
    def row(kind: Any, name: str, before: str | None, value: str) -> Determinism:
        return Determinism(process_key="main", kind=kind, name=name, before=before, value=value, site="t.py:3")

    events = Events(
        determinism=[
            row("change", "torch.num_threads", "2", "1"),
            row("operation", "put_", None, "warned"),
            row("operation", "CuBLAS", None, "refused"),
        ]
    )
    assert {
        "change.1": "torch.num_threads: 2 → 1 at t.py:3 in main",
        "operation.1": "put_ has no deterministic implementation: torch warned, at t.py:3 in main",
        "operation.2": "CuBLAS has no deterministic implementation: torch refused it, and the process ended, "
        "at t.py:3 in main",
    } == _facts(capture.after(context(tmp_path, events=events)).facts)
    assert () == capture.after(context(tmp_path, events=None)).facts


def test_what_the_agent_tells_is_read_and_a_kind_that_nobody_knows_is_a_gap(write_log: Any) -> None:
    told = {
        "event": "determinism",
        "kind": "operation",
        "name": "put_",
        "before": None,
        "value": "warned",
        "site": "a:1",
    }
    events = eventlog.read(write_log(told, {**told, "kind": "guess"}))
    assert [("main", "operation", "put_", None, "warned", "a:1")] == [
        (row.process_key, row.kind, row.name, row.before, row.value, row.site) for row in events.determinism
    ]
    assert ["1 lines of its event log could not be read"] == [gap.reason for gap in events.gaps]
