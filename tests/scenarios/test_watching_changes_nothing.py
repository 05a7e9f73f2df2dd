"""The loss curve is equal bit for bit with and without `repro record`, and the trace holds those very bits."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.torch


def test_the_small_training_is_equal_bit_for_bit_and_traced(repro, record, project: Path) -> None:
    bare = subprocess.run([sys.executable, "train.py"], cwd=project, capture_output=True, text=True, check=True)
    recorded = record([sys.executable, "train.py"], cwd=project)
    assert recorded.exit_status == 0, recorded.err
    assert bare.stdout == recorded.out
    trace = repro("show", "@last", "--json", cwd=project).answer["metrics"]
    losses = [float(m["value"]).hex() for m in trace if m["name"] == "loss"]
    assert [line.split()[1] for line in bare.stdout.splitlines()] == losses


def test_the_digits_training_with_workers_is_equal_bit_for_bit(record, digits: Path) -> None:
    argv = [sys.executable, "train.py", "--epochs", "2"]
    bare = subprocess.run(argv, cwd=digits, capture_output=True, text=True, check=True)
    before = _digests(digits / "runs")
    recorded = record(argv, cwd=digits)
    assert recorded.exit_status == 0, recorded.err
    assert bare.stdout == recorded.out
    assert before == _digests(digits / "runs")
    assert before, "the training wrote nothing to compare"


def _digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}
