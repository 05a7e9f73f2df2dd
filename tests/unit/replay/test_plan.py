import builtins
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from repro.evidence.model import Entropy, Gap, Setting
from repro.replay.data import Input, Inspection, Mismatch
from repro.replay.machine import Machine


def _mismatch(make: Any, found: str | None) -> Mismatch:
    return Mismatch(
        path="data/train.npz",
        recorded_sha256=make.digest(b"old"),
        found_sha256=found,
        found_size_bytes=3,
        recorded_modified_at=None,
        found_modified_at=None,
        sentence="data/train.npz changed on 2026-11-20 14:03 UTC, after it was recorded",
    )


def test_planning_touches_nothing(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    record = make.record(
        facts=(
            make.fact("environment", "python_version", "3.11.7"),
            make.fact("environment", "executable", "/env/bin/python"),
            make.fact("variable", "PYTHONPATH", "/home/me/project"),
        ),
        code_files=(make.code("train.py"),),
        data_files=(make.file("d"), make.file("/out/x", role="output")),
        packages=(make.package("a"),),
    )

    def touched(*arguments: object, **options: object) -> None:
        raise AssertionError("planning is pure")

    for place, name in ((builtins, "open"), (os, "stat"), (os, "listdir"), (os, "open"), (subprocess, "Popen")):
        monkeypatch.setattr(place, name, touched)
    first, second = make.plan(record), make.plan(record)
    monkeypatch.undo()
    assert first == second
    assert first.digest == second.digest


def test_the_digest_follows_what_is_run(make: Any) -> None:
    plans = [
        make.plan(make.record(run={"argv": ("python", "t.py", lr)}, facts=facts))
        for lr, facts in (("0.1", ()), ("0.2", ()), ("0.1", (make.fact("variable", "TZ", "UTC"),)))
    ]
    assert 3 == len({plan.digest for plan in plans})


def test_variables_are_the_recorded_ones_the_hash_seed_and_what_holds_threads(make: Any) -> None:
    record = make.record(
        facts=(
            make.fact("variable", "OMP_NUM_THREADS", "3"),
            make.fact("randomness", "hash_seed", "42"),
            make.fact("hardware", "cpu_affinity", "0-1"),
        ),
        settings=(Setting(process_key="main", moment="import", name="torch.num_threads", value="2"),),
    )
    machine = Machine(facts=(make.fact("hardware", "cpu_affinity", "0-7"),))
    expected = {"MKL_DYNAMIC": "FALSE", "MKL_NUM_THREADS": "2", "OMP_NUM_THREADS": "3", "PYTHONHASHSEED": "42"}
    assert expected == dict(make.plan(record, machine=machine).variables)


def test_the_recorded_interpreter(make: Any) -> None:
    assert None is make.plan(make.record()).python
    known = {"python_version": "3.11.7", "executable": "/env/bin/python"}
    found = make.plan(make.record(facts=tuple(make.fact("environment", *item) for item in known.items()))).python
    assert ("cpython", "/env", "/env", None) == (found.implementation, found.prefix, found.base_prefix, found.build)


def test_why_there_is_no_lock(make: Any) -> None:
    gap = Gap(topic="lock", subject="index", reason="not locked: the index did not answer")
    assert "not locked: the index did not answer" == make.plan(make.record(gaps=(gap,))).no_lock_because
    assert "the record says nothing of a lock" == make.plan(make.record()).no_lock_because


def test_changed_data_stands_in_the_way(make: Any) -> None:
    plan = make.plan(make.record(), Inspection(mismatches=(_mismatch(make, make.digest(b"new")),)))
    assert ["input data/train.npz"] == [c.name for c in plan.impossible]
    assert () == plan.inputs


def test_changed_data_is_taken_as_found_if_allowed_and_missing_data_is_done_without(make: Any) -> None:
    new = make.digest(b"new")
    inspection = Inspection(mismatches=(_mismatch(make, new), _mismatch(make, None)))
    plan = make.plan(make.record(), inspection, allow_changed_data=True)
    assert () == plan.impossible
    assert (Input(path="data/train.npz", source="place", sha256=new, size_bytes=3),) == plan.inputs
    assert 2 == len(plan.mismatches)


@pytest.mark.parametrize(
    ("argv", "variable", "outputs", "expected"),
    [
        (("t", "--out", "/data/runs"), "", ("/data/runs/a/m.pt", "/data/runs/b"), ("/data/runs",)),
        (("t", "--out=/data/runs/"), "", ("/data/runs/a/m.pt",), ("/data/runs",)),
        (("t", "/data/runs/m"), "", ("/data/runs/m.pt",), ("/data/runs",)),
        (("t", "/data/m.pt"), "", ("/data/m.pt",), ("/data/m.pt",)),
        (("t", "/data/other"), "", ("/data/m.pt",), ()),
        (("t",), "/logs", ("/logs/x",), ("/logs",)),
        (("t", "/"), "", ("/data/m.pt",), ()),
        (("t", "/data"), "", ("out/m.pt",), ()),
    ],
)
def test_outputs_outside_the_tree_are_diverted_where_the_command_names_them(
    make: Any, argv: Any, variable: str, outputs: Any, expected: Any
) -> None:
    record = make.record(
        run={"argv": argv},
        facts=(make.fact("variable", "TORCH_LOGS_OUT", variable),),
        data_files=tuple(make.file(path, role="output") for path in outputs),
    )
    assert expected == make.plan(record).diverted


def test_directories_that_were_there_before_the_run(make: Any) -> None:
    entropy = Entropy(
        process_key="main", stream="uuid.uuid4", ordinal=0, value="0a1b2c3d4e5f60718293a4b5c6d7e8f9", site="t.py:1"
    )
    record = make.record(
        run={"working_directory": "sub"},
        entropy=(entropy,),
        data_files=(
            make.file("runs/0a1b2c3d-4e5f/deep/m.pt", role="output"),
            make.file("made/deep/m.pt", role="output"),
            make.file("/elsewhere/x", role="output"),
            make.file("t/x", role="output", category="temporary"),
        ),
    )
    plan = make.plan(record, Inspection(made_directories=("/home/me/project/made",)))
    root = Path("/home/me/project")
    above = {"/", "/home", "/home/me", "/elsewhere"}
    assert above | {str(root), str(root / "runs"), str(root / "sub")} == set(plan.directories)


def test_another_time_zone_here_is_made_up_for(make: Any) -> None:
    record = make.record(facts=(make.fact("environment", "timezone", "Asia/Tokyo"),))
    here = Machine(facts=(make.fact("environment", "timezone", "Europe/Paris"),))
    assert ("TZ", "Asia/Tokyo") in make.plan(record, machine=here).variables
    assert "TZ" not in dict(make.plan(record, machine=Machine(facts=record.facts)).variables)
    stated = make.record(facts=(*record.facts, make.fact("variable", "TZ", "UTC")))
    assert "UTC" == dict(make.plan(stated, machine=here).variables)["TZ"]


def test_a_variable_that_was_stored_without_its_secret_is_not_set(make: Any) -> None:
    record = make.record(facts=(make.fact("variable", "HF_URL", "https://<redacted>@host/"),))
    assert "HF_URL" not in dict(make.plan(record).variables)
