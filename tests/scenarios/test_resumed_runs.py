"""A training in three runs, each going on from the checkpoint of the one before."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.torch

TRAINING = """
import argparse, os, random, time
import torch
parser = argparse.ArgumentParser()
parser.add_argument("--load")
parser.add_argument("--save")
parser.add_argument("--stamp", action="store_true")
args = parser.parse_args()
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.1), torch.nn.Linear(8, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
if args.load:
    saved = torch.load(args.load)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
for step in range(10):
    x = torch.randn(8, 4) + random.random()
    loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    if args.stamp:
        content["saved_at"] = time.time()
    if step % 5 == 4:
        torch.save(content, args.save + ".tmp")
        os.replace(args.save + ".tmp", args.save)
"""


@pytest.fixture
def trained(repro, record, tmp_path: Path) -> Any:
    """Return a folder, and a function that records one run in it and returns the record."""
    folder = tmp_path / "résumé"
    folder.mkdir()
    (folder / "train.py").write_text(TRAINING)

    def run(*arguments: str) -> Any:
        ran = record([sys.executable, "train.py", *arguments], cwd=folder)
        assert ran.exit_status == 0, ran.err
        return repro("show", "@last", "--json", cwd=folder).answer

    return folder, run


def flip(path: Path, name: str, at: int) -> None:
    """Change the last bit of one number of one tensor in a checkpoint."""
    import torch

    content = torch.load(path)
    content["model"][name].view(torch.int32).view(-1)[at] ^= 1
    torch.save(content, path)


def ids(*records: Any) -> list[str]:
    return [record["run"]["run_id"] for record in records]


def test_three_runs_are_one_training(repro, trained, repro_home: Path) -> None:
    folder, run = trained
    first, second, third = (
        run("--save", "a.pt"),
        run("--load", "a.pt", "--save", "b.pt"),
        run("--load", "b.pt", "--save", "c.pt"),
    )
    assert [] == first["continuations"]
    (link,), (after,) = second["continuations"], third["continuations"]
    assert [*ids(first), "file", {"optimizer.0": 10}] == [
        link["from_run_id"],
        link["matched_by"],
        json.loads(link["steps"]),
    ]
    assert [*ids(second), "file", {"optimizer.0": 20}] == [
        after["from_run_id"],
        after["matched_by"],
        json.loads(after["steps"]),
    ]
    written = [row for row in first["checkpoints"] if row["action"] == "written"]
    outputs = {row["path"]: row["digest"] for row in first["data_files"] if row["role"] == "output"}
    assert [("a.pt", None, '{"optimizer.0":5}'), ("a.pt", outputs["a.pt"], '{"optimizer.0":10}')] == [
        (row["path"], row["file_digest"], row["steps"]) for row in written
    ]
    assert {"rng.torch", "rng.python", "chain"} <= {row["name"] for row in first["checkpoint_states"]}
    shown = repro("show", cwd=folder).out
    assert "steps 20 to 29 of the whole training" in shown
    assert f"b.pt of run {ids(second)[0]}" in shown
    compared = repro("diff", *ids(first, third), cwd=folder).out
    assert "step S is step S + 20 of the whole training" in compared

    replayed = repro("replay", *ids(second), "--executor", "host", "--json", cwd=folder)
    assert "MATCHED-EXACTLY" == replayed.answer["verdict"]["word"], replayed.err
    again = repro("show", "@last", "--json", cwd=folder).answer
    assert [link] == again["continuations"]
    assert repro("report", *ids(second), cwd=folder).exit_status == 0
    (page,) = (repro_home / "runs" / ids(second)[0] / "report").glob("report.json")
    assert f"goes on from a.pt of run {ids(first)[0]}" in page.read_text()


def test_a_checkpoint_that_was_tampered_with_is_no_link_and_no_replay(repro, trained, tmp_path: Path) -> None:
    folder, run = trained
    kept = tmp_path / "kept"  # not in the code tree, whose files a record keeps
    kept.mkdir()
    path = str(kept / "a.pt")
    first = run("--save", path)
    flip(kept / "a.pt", "0.weight", 3)
    second = run("--load", path, "--save", "b.pt")
    assert [] == second["continuations"], "nobody wrote this"
    assert "whole training" not in repro("show", cwd=folder).out
    flip(kept / "a.pt", "0.weight", 3)
    replayed = repro("replay", *ids(second), "--executor", "host", cwd=folder)
    assert 5 == replayed.exit_status
    assert f"{path} changed" in replayed.err
    third = run("--load", path, "--save", "b.pt")
    (link,) = third["continuations"]
    assert (*ids(first), "content") == (link["from_run_id"], link["matched_by"]), "the same tensors in other bytes"
    compared = repro("diff", *ids(second, third), cwd=folder).out
    assert "(1 of 16 tensors: model.0.weight [8, 4] float32)" in compared


def test_one_bit_of_one_tensor_is_named_and_a_time_beside_tensors_is_no_mismatch(repro, trained) -> None:
    folder, run = trained
    first = run("--save", "a.pt", "--stamp")
    replayed = repro("replay", *ids(first), "--executor", "host", "--json", cwd=folder).answer["verdict"]
    assert "MATCHED-EXACTLY" == replayed["word"], replayed
    assert ["a.pt has other bytes, and all 16 tensors are equal"] == replayed["differences"]
    script = (folder / "train.py").read_text()
    flipped = 'content["model"]["2.weight"] = content["model"]["2.weight"].clone(); '
    flipped += 'content["model"]["2.weight"].view(torch.int32)[0, 5] ^= 1\n    if step % 5 == 4:'
    seeded = script.replace("model = torch", "torch.manual_seed(1); random.seed(1); model = torch", 1)
    (folder / "train.py").write_text(seeded)
    left = run("--save", "c.pt")
    (folder / "train.py").write_text(seeded.replace("if step % 5 == 4:", flipped))
    right = run("--save", "c.pt")
    compared = repro("diff", *ids(left, right), cwd=folder).out
    assert "1 of 16 tensors: model.2.weight [1, 8] float32" in compared
