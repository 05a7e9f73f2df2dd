"""Ranks that die: both attempts of an elastic launcher are in one record, and what is told of each end is the truth."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios.conftest import shown

pytestmark = pytest.mark.torch

TRAIN = """
import os, signal, time
import torch
rank, attempt = int(os.environ["RANK"]), int(os.environ["TORCHELASTIC_RESTART_COUNT"])
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(12):
    loss = ((model(torch.randn(8, 4)) - 1) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step == 7 and attempt in {deadly}:
        if rank == 1:
            {death}
        time.sleep(60)  # waits for the other, as in a collective operation: the launcher ends it
"""
KILL = "os.kill(os.getpid(), signal.SIGKILL)"


def launcher(restarts: int) -> list[str]:
    ranks = ["--standalone", "--nproc-per-node", "2", "--max-restarts", str(restarts), "--monitor-interval", "0.1"]
    return [sys.executable, "-m", "torch.distributed.run", *ranks, "train.py"]


def ranks(seen: Any) -> dict[str, Any]:
    return {p["process_key"]: p for p in seen["processes"] if p["rank"] is not None}


def losses(seen: Any, key: str) -> int:
    return sum((m["process_key"], m["name"]) == (key, "loss") for m in seen["metrics"])


def test_a_group_that_was_started_again_is_told_and_replays(repro, record, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAIN.replace("{deadly}", "{0}").replace("{death}", KILL))
    recorded = record(launcher(1), cwd=tmp_path)
    assert recorded.exit_status == 0, recorded.err
    seen = shown(repro, "@last", tmp_path)
    found = ranks(seen)
    assert {"main/rank0", "main/rank1", "main/rank0@1", "main/rank1@1"} == set(found)
    assert [0, 0, 1, 1] == [found[key]["attempt"] for key in sorted(found, key=lambda key: ("@" in key, key))]
    dead = found["main/rank1"]
    assert ("SIGKILL", None, None) == (dead["signal"], dead["exit_code"], dead["ended_at"])
    assert (None, 0) == (found["main/rank1@1"]["signal"], found["main/rank1@1"]["exit_code"])
    assert [8, 8, 12, 12] == [losses(seen, key) for key in ("main/rank0", "main/rank1", "main/rank0@1", "main/rank1@1")]
    said = repro("show", "@last", cwd=tmp_path).out
    assert "rank 1 ended with SIGKILL at step 7" in said
    assert "the group was started again" in said
    replayed = repro("replay", "@last", "--executor", "host", "--json", cwd=tmp_path)
    assert "MATCHED-EXACTLY" == replayed.answer["verdict"]["word"], replayed.err
    again = shown(repro, "@last", tmp_path)
    assert "SIGKILL" == ranks(again)["main/rank1"]["signal"]
    for key in ("main/rank0@1", "main/rank1@1"):
        assert words(seen, key) == words(again, key) != []


@pytest.mark.parametrize(("death", "end"), [(KILL, "SIGKILL"), ("os._exit(3)", "exit 3")], ids=["killed", "left"])
def test_a_rank_that_dies_for_good_fails_the_run_by_name(repro, record, tmp_path: Path, death: str, end: str) -> None:
    (tmp_path / "train.py").write_text(TRAIN.replace("{deadly}", "{0, 1}").replace("{death}", death))
    recorded = record(launcher(0), cwd=tmp_path)
    assert recorded.exit_status == 1, recorded.err
    assert f"rank 1 ended with {end} at step 7" in recorded.err
    seen = shown(repro, "@last", tmp_path)
    assert "failed" == seen["run"]["status"]
    found = ranks(seen)
    assert {"main/rank0", "main/rank1"} == set(found)
    assert "SIGTERM" == found["main/rank0"]["signal"], "the launcher ends the others"
    assert all(each["exited_at"] for each in found.values())
    assert 8 == losses(seen, "main/rank1")
    assert words(seen, "main/rank1"), "what the dead rank told before its end is kept"
    assert "it was not started again" in repro("show", "@last", cwd=tmp_path).out


def words(seen: Any, key: str) -> list[tuple[Any, ...]]:
    rows = seen["fingerprints"]
    return [(r["anchor"], r["step"], r["field"], r["words"]) for r in rows if r["process_key"] == key]
