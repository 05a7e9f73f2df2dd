"""Seeded or not, a training replays to the last bit: data order, augmentation in workers, dropout, checkpoint."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("options", [[], ["--unseeded"]], ids=["seeded", "unseeded"])
def test_the_small_training(repro, record, repository: Path, options: list[str]) -> None:
    assert record([sys.executable, "train.py", *options], cwd=repository).exit_status == 0
    first = repro("show", "@last", "--json", cwd=repository).answer
    replayed = repro("replay", "@last", "--executor", "host", "--json", cwd=repository)
    assert replayed.exit_status == 0, replayed.err
    assert replayed.answer["verdict"]["word"] == "MATCHED-EXACTLY"
    second = repro("show", "@last", "--json", cwd=repository).answer
    assert first["run"]["run_id"] == second["run"]["replay_of"]
    assert [m["value"] for m in first["metrics"]] == [m["value"] for m in second["metrics"]]


@pytest.mark.parametrize("script", ["train.py", "train_unseeded.py"])
def test_the_digits_example(repro, record, digits: Path, script: str) -> None:
    assert record([sys.executable, script, "--epochs", "2"], cwd=digits).exit_status == 0
    shutil.rmtree(digits / "runs")  # the replay must not need what the run wrote
    replayed = repro("replay", "@last", "--executor", "host", "--json", cwd=digits)
    assert replayed.exit_status == 0, replayed.err
    assert replayed.answer["verdict"]["word"] == "MATCHED-EXACTLY"
    assert not (digits / "runs").exists(), "the replay wrote into the original folder"


def test_an_unseeded_script_that_is_simply_run_again_differs(repro, record, project: Path) -> None:
    for _ in range(2):
        assert record([sys.executable, "train.py", "--unseeded"], cwd=project).exit_status == 0
    compared = repro("diff", "@prev", "@last", cwd=project)
    assert compared.exit_status == 1
    assert "torch.initial_seed" in compared.out, "chance is the cause, so it is listed"


def test_the_original_folder_may_be_gone_if_the_data_are_not_in_it(
    repro, record, project: Path, tmp_path: Path
) -> None:
    data = shutil.move(project / "data.json", tmp_path / "data.json")
    assert record([sys.executable, "train.py", "--data", data], cwd=project).exit_status == 0
    shutil.rmtree(project)
    replayed = repro("replay", "@last", "--executor", "host", "--json", cwd=tmp_path)
    assert replayed.exit_status == 0, replayed.err
    assert replayed.answer["verdict"]["word"] == "MATCHED-EXACTLY"
