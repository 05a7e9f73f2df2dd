"""The training trace, from the agent's hook to the seal: what each step held, on a schedule that a replay repeats."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.torch

GAN = """
import torch
torch.manual_seed(3)
generator, critic = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
first = torch.optim.Adam(generator.parameters(), lr=0.01)
second = torch.optim.SGD(critic.parameters(), lr=0.1, momentum=0.9)
for step in range(40):
    made = generator(torch.randn(8, 2))
    for optimizer in (second, first):
        loss = critic(made.detach()).mean() if optimizer is second else -critic(made).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""
CONFIGURED = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--api-key")
parser.parse_args()
"""


def shown(repro: Any, folder: Path) -> Any:
    """Return the whole record of the latest run."""
    return repro("show", "@last", "--json", cwd=folder).answer


def told(record: Any) -> list[tuple[Any, ...]]:
    """Return all that a record's trace says, but for times."""
    rows = record["fingerprints"]
    return [(r["process_key"], r["anchor"], r["step"], r["place"], r["field"], r["words"]) for r in rows]


def steps(record: Any, anchor: str = "optimizer.0") -> list[int]:
    return sorted({row["step"] for row in record["fingerprints"] if row["anchor"] == anchor})


def facts(record: Any) -> dict[str, str]:
    return {fact["name"]: fact["value"] for fact in record["facts"] if fact["topic"] == "trace"}


def trace_gaps(record: Any) -> list[tuple[str, str]]:
    return [(gap["subject"], gap["reason"]) for gap in record["gaps"] if gap["topic"] == "trace"]


def test_a_replay_traces_the_same_steps_and_they_hold_the_same(repro, record, project: Path) -> None:
    assert record([sys.executable, "train.py", "--unseeded", "--steps", "150"], cwd=project).exit_status == 0
    first = shown(repro, project)
    replayed = repro("replay", "@last", "--executor", "host", "--json", cwd=project)
    assert "MATCHED-EXACTLY" == replayed.answer["verdict"]["word"], replayed.err
    second = shown(repro, project)
    assert told(first) == told(second)
    assert [*range(9), 16, 32, 64, 128] == [step for step in steps(first) if step < 9 or not step & (step - 1)]
    assert {"gradient", "parameter", "rng.torch"} <= {row["field"] for row in first["fingerprints"]}
    every = [[s["value"] for s in run["settings"] if s["name"] == "trace.every"] for run in (first, second)]
    assert every[0] == every[1] != []
    assert facts(first) == facts(second), "the chains bind the same content"
    assert {"chain.main"} == set(facts(first))
    assert [] == trace_gaps(first) == trace_gaps(second)
    assert "optimizer.0" in repro("show", cwd=project).out


def test_every_step_of_two_optimizers(repro, record, project: Path) -> None:
    (project / "gan.py").write_text(GAN)
    assert record([sys.executable, "gan.py"], cwd=project, options=["--trace-every", "1"]).exit_status == 0
    first = shown(repro, project)
    assert list(range(40)) == steps(first) == steps(first, "optimizer.1")
    assert "1" == facts(first)["every"]
    names = {(t["anchor"], t["name"], t["shape"], t["dtype"]) for t in first["traced_tensors"]}
    assert 4 == len(names)
    assert {"[2, 2]", "[2]", "[1, 2]", "[1]"} == {shape for _, _, shape, _ in names}
    assert repro("replay", "@last", "--executor", "host", cwd=project).exit_status == 0
    second = shown(repro, project)
    assert (told(first), facts(first)) == (told(second), facts(second))
    out = repro("show", cwd=project).out
    assert 2 == out.count("40 of 40 steps traced, the last 39")
    assert "its chain is intact" in out


@pytest.mark.parametrize("by", ["option", "settings"])
def test_a_trace_that_is_off_is_said_to_be_off_and_stays_off(repro, record, project: Path, by: str) -> None:
    options = ["--trace-every", "0"] if by == "option" else []
    if by == "settings":
        (project / "repro.toml").write_text("trace-every = 0\n")
    assert record([sys.executable, "train.py"], cwd=project, options=options).exit_status == 0
    first = shown(repro, project)
    assert ([], {"every": "off"}) == (first["fingerprints"], facts(first))
    assert "trace      off" in repro("show", cwd=project).out
    assert repro("replay", "@last", "--executor", "host", cwd=project).exit_status == 0
    second = shown(repro, project)
    assert (first["run"]["run_id"], [], "off") == (
        second["run"]["replay_of"],
        second["fingerprints"],
        facts(second)["every"],
    )


def test_our_variables_are_never_the_user_s(repro, record, project: Path) -> None:
    variables = {"REPRO_TRACE_EVERY": "0", "REPRO_TRACE_BUDGET": "0.5"}
    options = ["--trace-budget", "2.5"]
    ran = record([sys.executable, "train.py"], cwd=project, options=options, variables=variables)
    assert ran.exit_status == 0
    found = shown(repro, project)
    assert steps(found), "what is set around the recorder is not for its command"
    assert "0.025" == facts(found)["budget"]
    others = next(f["value"] for f in found["facts"] if f["name"] == "other_variables")
    assert not any("REPRO_TRACE" in name for name in [others, *(f["name"] for f in found["facts"])])


def test_a_line_that_is_changed_before_the_seal_is_a_gap(repro, record, project: Path) -> None:
    """The command itself rewrites its log, once the training has ended and nothing is sealed yet."""
    change = (
        'f=$(grep -l gradient "$REPRO_EVENTS"/*.jsonl)\n'
        'sed -i \'/"step":5,"field":"gradient"/s/"words":"[0-9a-f]\\{16\\}/"words":"0123456789abcdef/\' "$f"'
    )
    script = f"{shlex.quote(sys.executable)} train.py && {change}"
    assert record(["sh", "-c", script], cwd=project).exit_status == 0
    found = shown(repro, project)
    key = found["fingerprints"][0]["process_key"]
    assert "broken" == facts(found)[f"chain.{key}"]
    reason = "the chain of its trace breaks once, first at optimizer.0, step 5, gradient: lines were changed or lost"
    assert [(key, reason)] == trace_gaps(found)
    assert "its chain is broken" in repro("show", cwd=project).out


def test_hyperparameters_are_shown_without_secrets(repro, record, project: Path) -> None:
    (project / "configured.py").write_text(CONFIGURED)
    ran = record([sys.executable, "configured.py", "--lr", "0.25", "--api-key", "hunter2"], cwd=project)
    assert ran.exit_status == 0
    found = shown(repro, project)
    values = {row["name"]: row["value"] for row in found["hyperparameters"] if row["source"] == "argparse"}
    assert {"lr": "0.25", "api_key": "<redacted>"} == values
    assert "hunter2" not in str(found)
    out = repro("show", cwd=project).out
    assert "Hyperparameters (2)" in out
    assert "argparse  lr" in out
