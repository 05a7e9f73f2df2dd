"""The stopwatch itself: every round is whole, orders rotate, a failing command is no measurement."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def measure() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmarks_measure", Path(__file__).parent / "measure.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def command(measure: ModuleType, name: str, code: str, **options: object) -> object:
    return measure.Command(name=name, argv=(sys.executable, "-S", "-c", code), **options)


def test_each_round_runs_every_command_once_in_a_rotating_order(measure: ModuleType, tmp_path: Path) -> None:
    said: list[str] = []
    commands = [command(measure, name, "print('out')") for name in ("a", "b", "c")]
    samples = measure.run_rounds(commands, 2, tmp_path, said.append)
    assert ["a", "b", "c", "b", "c", "a", "c", "a", "b"] == [line[-1] for line in said]
    assert [1, 1, 1, 2, 2, 2] == [sample.round for sample in samples]
    assert {"out\n"} == {sample.stdout for sample in samples}


def test_a_sample_is_paired_with_the_baseline_of_its_own_round(measure: ModuleType) -> None:
    samples = [
        measure.Sample(name=name, round=number, wall_seconds=wall, cpu_seconds=0.0, stdout="")
        for name, number, wall in (("bare", 2, 5.0), ("ours", 1, 1.5), ("bare", 1, 1.0), ("ours", 2, 6.0))
    ]
    pairs = measure.paired(samples, "ours", "bare")
    assert [0.5, 1.0] == [ours.wall_seconds - bare.wall_seconds for ours, bare in pairs]
    assert "| ours | 3750 (1500 to 6000) | 750 (500 to 1000) | 0 (0 to 0) |" in measure.over_baseline(
        samples, "bare", ["ours"]
    )


def test_the_processor_time_of_children_counts(measure: ModuleType, tmp_path: Path) -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    parent = f"import subprocess, sys\nsubprocess.run([sys.executable, '-S', '-c', {burn!r}])"
    (sample,) = measure.run_rounds([command(measure, "parent", parent)], 1, tmp_path, print, warm_up=False)
    assert sample.cpu_seconds >= 0.3


def test_a_command_that_fails_is_no_measurement(measure: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(measure.CommandFailedError, match=r"bad exited with 3:\nno data"):
        measure.run_rounds([command(measure, "bad", "print('no data'); raise SystemExit(3)")], 1, tmp_path, print)


def test_a_peer_that_fails_is_left_out(measure: ModuleType, tmp_path: Path) -> None:
    said: list[str] = []
    code = "import pathlib, sys; sys.exit(not pathlib.Path.cwd().name.endswith('-1'))"
    peer = command(measure, "peer", code, may_fail=True)
    samples = measure.run_rounds([command(measure, "ours", ""), peer], 2, tmp_path, said.append, warm_up=False)
    assert ["ours", "ours"] == [sample.name for sample in samples]
    assert "left out: peer exited with 1:\n" in said


def test_what_prepare_makes_is_there_and_fresh(measure: ModuleType, tmp_path: Path) -> None:
    code = "import os; print(os.listdir()); open('mine', 'w')"
    wants = command(measure, "a/b", code, prepare=lambda folder: (folder / "data").touch())
    samples = measure.run_rounds([wants], 2, tmp_path, print)
    assert ["['data']\n"] * 2 == [sample.stdout for sample in samples]
