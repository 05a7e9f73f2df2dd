"""`diff` names what changed and where the curves part; `replay` refuses data that are not the recorded ones."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.torch


def test_another_learning_rate(repro, record, project: Path) -> None:
    for lr in ("0.1", "0.05"):
        assert record([sys.executable, "train.py", "--lr", lr], cwd=project).exit_status == 0
    compared = repro("diff", "@prev", "@last", cwd=project)
    assert compared.exit_status == 1
    assert "--lr" in compared.out
    assert "every run draws anew (--all lists them)" in compared.out
    assert "hash_seed" not in compared.out
    assert "hash_seed" in repro("diff", "@prev", "@last", "--all", cwd=project).out
    answer = repro("diff", "@prev", "@last", "--json", cwd=project).answer
    (argument,) = [d for d in answer["differences"] if d["section"] == "arguments"]
    assert ("--lr", "0.1", "0.05") == (argument["name"], argument["left"], argument["right"])
    loss = next(m for m in answer["metrics"] if m["name"] == "loss")
    assert 1 == loss["first"]["step"], "the first loss is computed before the learning rate is used"
    assert loss["first"]["left_bits"] != loss["first"]["right_bits"]


def test_equal_runs_are_equal(repro, record, project: Path) -> None:
    for _ in range(2):
        assert record([sys.executable, "train.py"], cwd=project).exit_status == 0
    compared = repro("diff", "@prev", "@last", cwd=project)
    assert compared.exit_status == 0, compared.out
    assert "nothing differs but chance" in compared.out


def test_changed_code_is_named(repro, record, repository: Path) -> None:
    assert record([sys.executable, "train.py"], cwd=repository).exit_status == 0
    script = repository / "train.py"
    script.write_text(script.read_text().replace("lr=args.lr", "lr=args.lr * 2"))
    assert record([sys.executable, "train.py"], cwd=repository).exit_status == 0
    compared = repro("diff", "@prev", "@last", cwd=repository)
    assert compared.exit_status == 1
    assert "train.py" in compared.out


def test_a_replay_refuses_changed_data_and_says_since_when(repro, record, repository: Path) -> None:
    assert record([sys.executable, "train.py"], cwd=repository).exit_status == 0
    data = repository / "data.json"
    points = json.loads(data.read_text())
    points[3][1] += 1.0
    data.write_text(json.dumps(points))
    since = 1_790_000_000
    os.utime(data, (since, since))
    refused = repro("replay", "@last", "--executor", "host", cwd=repository)
    assert refused.exit_status == 5
    assert "data.json" in refused.err
    assert time.strftime("%Y-%m-%d %H:%M", time.gmtime(since)) in refused.err

    told = repro("replay", "@last", "--executor", "host", "--allow-changed-data", "--json", cwd=repository)
    assert told.exit_status == 5, told.err
    assert ("INDETERMINATE", "DATA_CHANGED") == (told.answer["verdict"]["word"], told.answer["verdict"]["reason"])


def test_data_that_are_gone(repro, record, repository: Path) -> None:
    assert record([sys.executable, "train.py"], cwd=repository).exit_status == 0
    (repository / "data.json").unlink()
    refused = repro("replay", "@last", "--executor", "host", cwd=repository)
    assert refused.exit_status == 5
    assert "data.json" in refused.err


def test_a_tolerance_that_was_sealed_beforehand(repro, record, project: Path) -> None:
    script = project / "train.py"
    noisy = script.read_text().replace(
        "    loss.backward()", "    loss = loss + 1e-7 * len(__import__('os').getcwd())\n    loss.backward()"
    )
    script.write_text(noisy)
    assert record([sys.executable, "train.py"], cwd=project, options=["--tolerance", "loss=1e-3"]).exit_status == 0
    replayed = repro("replay", "@last", "--executor", "host", "--json", cwd=project)
    assert "MATCHED-WITHIN-TOLERANCE" == replayed.answer["verdict"]["word"], replayed.out
    assert replayed.exit_status == 0


def test_the_same_drift_without_a_tolerance(repro, record, project: Path) -> None:
    script = project / "train.py"
    script.write_text(
        script.read_text().replace(
            "    loss.backward()", "    loss = loss + 1e-7 * len(__import__('os').getcwd())\n    loss.backward()"
        )
    )
    assert record([sys.executable, "train.py"], cwd=project).exit_status == 0
    replayed = repro("replay", "@last", "--executor", "host", "--json", cwd=project)
    assert ("DID-NOT-MATCH", 1) == (replayed.answer["verdict"]["word"], replayed.exit_status)
