"""The model in the record: what it was, and one bit in a running statistic or a frozen weight found at its step."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.conftest import shown

pytestmark = pytest.mark.torch

TRAINING = """
import sys, torch
from torch.utils.data import DataLoader, TensorDataset
nn = torch.nn
torch.manual_seed(1)
change = sys.argv[1]
kind = nn.GELU if change == "activation" else nn.ReLU
frozen = nn.Linear(8, 4).requires_grad_(False)
model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), kind(), frozen, nn.Linear(4, 1))
data = TensorDataset(torch.randn(320, 8), torch.randn(320, 1))
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
for step, (x, y) in enumerate(DataLoader(data, 16, shuffle=True)):
    if step == 13 and change == "mean": model[1].running_mean.view(torch.int32)[3] ^= 64
    if step == 13 and change == "frozen": model[3].weight.data.view(torch.int32)[1, 2] ^= 1
    optimizer.zero_grad()
    (model(x) - y).square().mean().backward()
    optimizer.step()
"""


def first(answer: Any) -> tuple[Any, ...]:
    found = answer["trace"]["first"]
    return found["step"], found["what"]["field"], [one["name"] for one in found["what"]["tensors"]], found["cause"]


def test_a_model_is_recorded_replayed_and_compared(repro, record, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAINING)
    runs = {}
    for change in ("none", "mean", "frozen", "activation"):
        command = [sys.executable, "train.py", change]
        assert 0 == record(command, cwd=tmp_path, options=["--trace-every", "1"]).exit_status
        runs[change] = shown(repro, "@last", tmp_path)
    original = runs["none"]["run"]["run_id"]

    (model,) = runs["none"]["models"]
    assert ("torch.nn.modules.container.Sequential", 0) == (model["class_name"], model["step"])
    out = repro("show", original, cwd=tmp_path).out
    assert "Models (1)" in out
    assert "93 parameters, 36 frozen, 17 in 3 buffers" in out
    assert "20 of 20 steps traced, the last 19" in out
    assert [] == [gap for gap in runs["none"]["gaps"] if gap["topic"] == "trace"]

    for change, expected in (
        ("mean", (13, "buffer", ["1.running_mean"], "buffers")),
        ("frozen", (13, "buffer", ["3.weight"], "weights-written")),
    ):
        compared = repro("diff", original, runs[change]["run"]["run_id"], "--json", cwd=tmp_path).answer
        assert expected == first(compared), change
        assert [] == [one for one in compared["differences"] if one["section"] == "model"]
    compared = repro("diff", original, runs["activation"]["run"]["run_id"], "--json", cwd=tmp_path).answer
    assert (0, "structure") == (first(compared)[0], first(compared)[3])
    (module,) = [one for one in compared["differences"] if one["section"] == "model"]
    assert "optimizer.0 module 2" == module["name"]

    replayed = repro("replay", original, "--executor", "host", "--json", cwd=tmp_path)
    assert "MATCHED-EXACTLY" == replayed.answer["verdict"]["word"], replayed.err
    again = shown(repro, "@last", tmp_path)
    assert runs["none"]["models"] == again["models"]
    assert runs["none"]["model_tensors"] == again["model_tensors"]
