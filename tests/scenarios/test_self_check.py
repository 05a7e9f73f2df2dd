"""The first steps run again: `replay --steps`, `record --self-check`, and the operation that gives other bits."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.torch

LOADED = """
import torch
if __name__ == "__main__":
    torch.set_num_threads(2)
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    samples = torch.utils.data.TensorDataset(torch.randn(160, 8))
    loader = torch.utils.data.DataLoader(samples, batch_size=16, shuffle=True, num_workers=2)
    for number, (batch,) in enumerate(loader):
        loss = (model(batch) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print("step", number, flush=True)
    torch.save(model.state_dict(), "model.pt")
"""
SCATTERED = """
import torch
torch.manual_seed(3)
torch.set_num_threads(2)
table = torch.nn.Parameter(torch.zeros(8, 64))
head = torch.nn.Linear(64, 1)
optimizer = torch.optim.SGD([table, *head.parameters()], lr=0.1)
for step in range(12):
    places = torch.randint(0, 8, (80000,))
    rows = table[places]
    loss = (head(rows + torch.randn(80000, 64)) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
raise SystemExit(3)
"""
RANKS = """
import torch, torch.distributed as dist
dist.init_process_group("gloo")
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(12):
    loss = ((model(torch.randn(8, 4)) - 1) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
dist.barrier()
dist.destroy_process_group()
open(f"ended.{dist.get_rank() if dist.is_initialized() else 'all'}", "w").close()
"""
BY_HAND = """
import torch
weight = torch.zeros(4, requires_grad=True)
for step in range(9):
    ((weight - torch.rand(4)) ** 2).sum().backward()
    with torch.no_grad():
        weight -= 0.1 * weight.grad
        weight.grad = None
"""


def shown(repro: Any, run: str, folder: Path) -> Any:
    return repro("show", run, "--json", cwd=folder).answer


def facts(record: Any, topic: str = "self_check") -> dict[str, str]:
    return {fact["name"]: fact["value"] for fact in record["facts"] if fact["topic"] == topic}


def steps(record: Any, process_key: str = "main") -> int:
    """Return how many losses a process has told."""
    return sum((m["process_key"], m["name"]) == (process_key, "loss") for m in record["metrics"])


def test_the_first_steps_alone_with_workers_and_unseeded(repro, record, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(LOADED)
    ran = record([sys.executable, "train.py"], cwd=tmp_path, options=["--self-check", "3"])
    assert ran.exit_status == 0, ran.err
    assert "Self-check: the first 3 steps, run again at once on the same machine, came out the same" in ran.err
    assert 10 == ran.out.count("step"), "what the self-check prints goes nowhere"
    run = shown(repro, "@last", tmp_path)
    assert {"outcome": "passed", "steps": "3"} == facts(run)
    assert "self_check" not in {gap["topic"] for gap in run["gaps"]}
    replayed = repro("replay", "@last", "--executor", "host", "--steps", "4", "--operations", "2", cwd=tmp_path)
    assert replayed.exit_status == 0, replayed.err
    assert replayed.out.startswith("INDETERMINATE:FIRST_STEPS_EQUAL: The first 4 steps are equal, bit for bit;")
    second = shown(repro, "@last", tmp_path)
    assert ("4", "2") == (facts(second, "replay")["steps"], facts(second, "replay")["operations"])
    assert (4, 0) == (steps(second), second["run"]["exit_code"])
    assert all(process["ended_at"] for process in second["processes"]), "workers, too, end in good order"
    names = [row["name"] for row in second["operations"]]
    assert {"aten::addmm", "aten::threshold_backward"} < set(names)
    assert {2} == {row["step"] for row in second["operations"]}
    sites = {row["site"].rpartition("/")[2] for row in second["operations"] if row["name"] == "aten::mm"}
    assert {"train.py:10 backward"} == sites


def test_an_operation_that_does_not_repeat_is_named_with_its_line(repro, record, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCATTERED)
    ran = record([sys.executable, "train.py"], cwd=tmp_path, options=["--self-check", "4"])
    assert 3 == ran.exit_status, "the command's own"
    assert "Self-check failed: the first 4 steps" in ran.err
    assert "aten::index_put (in the backward pass of that line)" in ran.err
    found = facts(shown(repro, "@last", tmp_path))
    assert ("failed", f"{tmp_path}/train.py:10") == (found["outcome"], found["site"])
    assert found["reason"].startswith("The runs part at step 0 of optimizer.0 in main, in the gradients")
    assert "self-check" in repro("show", "@last", cwd=tmp_path).out
    run_id = shown(repro, "@last", tmp_path)["run"]["run_id"]
    replayed = repro("replay", "@last", "--executor", "host", "--steps", "2", cwd=tmp_path)
    assert 1 == replayed.exit_status
    assert replayed.out.startswith("DID-NOT-MATCH: The runs part at step 0")
    assert "Its self-check had failed: this run does not repeat on the machine it was recorded on." in replayed.out
    reported = repro("report", run_id, cwd=tmp_path)
    assert reported.exit_status in (0, 1), reported.err
    (page,) = (Path(line) for line in reported.out.splitlines() if line.endswith("report.html"))
    assert "Self-check failed" in page.read_text()


def test_strict_does_not_pass_a_self_check_that_failed(repro, record, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import time\nraise SystemExit(0)\n")
    ran = record([sys.executable, "train.py"], cwd=tmp_path, options=["--self-check", "2", "--strict"])
    assert 125 == ran.exit_status
    assert "Self-check undecided: Neither run left a metric" in ran.err


def test_two_ranks_end_after_the_same_step(repro, record, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(RANKS)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    assert 0 == record([*launcher, "train.py"], cwd=tmp_path).exit_status
    replayed = repro("replay", "@last", "--executor", "host", "--steps", "5", "--json", cwd=tmp_path)
    assert replayed.exit_status == 0, replayed.err
    assert ("FIRST_STEPS_EQUAL", 5) == (replayed.answer["verdict"]["reason"], replayed.answer["verdict"]["steps"])
    assert 0 == replayed.answer["exit_status"], "the launcher is content"
    second = shown(repro, "@last", tmp_path)
    assert [5, 5] == [steps(second, f"main/rank{rank}") for rank in range(2)]
    assert not [f for f in second["data_files"] if f["path"].startswith("ended") and f["role"] == "output"]


def test_steps_of_a_training_without_an_optimizer(repro, record, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(BY_HAND)
    assert 0 == record([sys.executable, "train.py"], cwd=tmp_path).exit_status
    replayed = repro("replay", "@last", "--executor", "host", "--steps", "3", cwd=tmp_path)
    assert replayed.exit_status == 0, replayed.out + replayed.err
    assert 3 == steps(shown(repro, "@last", tmp_path))
    whole = repro("replay", "@prev", "--executor", "host", "--steps", "50", cwd=tmp_path)
    assert whole.out.startswith("MATCHED-EXACTLY"), "it ended by itself before"
    refused = repro("replay", "@prev", "--steps", "3", "--operations", "3", cwd=tmp_path)
    assert 2 == refused.exit_status
