"""Two ranks under torchrun: one run, one record, each rank known by its role, and an unseeded run replays in both."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.torch

TRAIN = """
import torch, torch.distributed as dist
dist.init_process_group("gloo")
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(4):
    loss = ((model(torch.randn(8, 4)) - 1) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
dist.destroy_process_group()
"""


def test_an_unseeded_run_of_two_ranks(repro, record, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAIN)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    recorded = record([*launcher, "train.py"], cwd=tmp_path)
    assert recorded.exit_status == 0, recorded.err
    seen = repro("show", "@last", "--json", cwd=tmp_path).answer
    facts = {fact["name"]: fact["value"] for fact in seen["facts"] if fact["topic"] == "data"}
    assert "complete" == facts["lineage"], seen["gaps"]  # PyTorch's store has an io_uring, for sockets alone
    ranks = {p["process_key"]: (p["rank"], p["world_size"]) for p in seen["processes"] if p["rank"] is not None}
    assert {"main/rank0": (0, 2), "main/rank1": (1, 2)} == ranks
    groups = {
        (s["process_key"], s["name"]): s["value"] for s in seen["settings"] if s["name"].startswith("distributed.")
    }
    for key in ranks:
        told = [groups.get((key, f"distributed.{name}")) for name in ("backend", "world_size", "groups")]
        assert ["gloo", "2", "gloo of 2"] == told
    losses = {
        key: [m["value"] for m in seen["metrics"] if m["name"] == "loss" and m["process_key"] == key] for key in ranks
    }
    assert [4, 4] == [len(values) for values in losses.values()]
    assert losses["main/rank0"] != losses["main/rank1"], "each rank drew data of its own"
    replayed = repro("replay", "@last", "--executor", "host", "--json", cwd=tmp_path)
    assert replayed.exit_status == 0, replayed.err
    assert "MATCHED-EXACTLY" == replayed.answer["verdict"]["word"]
