"""Number of threads, usable CPUs and the mode of determinism decide the bits: a replay has them as they were."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.torch, pytest.mark.skipif(shutil.which("taskset") is None, reason="taskset is not installed")]

THREADS = """
import hashlib, torch
torch.manual_seed(3)
layers = torch.nn.Linear(64, 256), torch.nn.LayerNorm(256), torch.nn.GELU(), torch.nn.Linear(256, 10)
model = torch.nn.Sequential(*layers)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
x, y = torch.randn(4096, 64), torch.randint(0, 10, (4096,))
for step in range(6):
    loss = torch.nn.functional.cross_entropy(model(x), y)
    optimizer.zero_grad(); loss.backward(); optimizer.step()
weights = b"".join(parameter.detach().numpy().tobytes() for parameter in model.parameters())
print(torch.get_num_threads(), hashlib.sha256(weights).hexdigest())
"""

OPERATION = """
import torch
torch.manual_seed(1)
model = torch.nn.Linear(4, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(3):
    model(torch.rand(2, 4)).sum().backward()
    optimizer.step()
    torch.zeros(4).put_(torch.tensor([0, 1]), torch.rand(2))
torch.backends.cudnn.benchmark = True
print(torch.are_deterministic_algorithms_enabled())
"""

RACE = """
import hashlib, torch
torch.manual_seed(3)
table = torch.nn.Parameter(torch.zeros(1000))
optimizer = torch.optim.SGD([table], lr=0.1)
values, places = torch.randn(1_000_000), torch.randint(0, 1000, (1_000_000,))
for step in range(12):
    gathered = torch.zeros(1000).index_put((places,), values, accumulate=True)
    ((table - gathered) ** 2).sum().backward()
    optimizer.step()
    print(step, gathered.numpy().sum().item().hex(), hashlib.sha256(gathered.numpy().tobytes()).hexdigest())
"""


def shown(repro, folder: Path) -> Any:
    """Return the whole record of the last run."""
    return repro("show", "@last", "--json", cwd=folder).answer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    for name, text in (("threads.py", THREADS), ("operation.py", OPERATION), ("race.py", RACE)):
        (tmp_path / "work" / name).write_text(text)
    return tmp_path / "work"


Place = tuple[str, dict[str, str]]
"""CPUs that may be used, and variables."""
HERE: Place = ("", {})
ONE_CPU: Place = ("0", {})
RECORD = ("-m", "repro", "record", "--lock-timeout", "0", "--")
REPLAY = ("-m", "repro", "replay", "@last", "--executor", "host", "--json")


def _run(folder: Path, place: Place, *argv: str) -> subprocess.CompletedProcess[str]:
    cpus, variables = place
    restricted = ["taskset", "-c", cpus] if cpus else []
    environment = {**os.environ, **variables}
    done = subprocess.run(
        [*restricted, sys.executable, *argv], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one CPU: nothing else to replay with")
@pytest.mark.parametrize(
    ("there", "here"),
    [
        (("", {"OMP_NUM_THREADS": "1"}), ("", {"OMP_NUM_THREADS": "2"})),
        (ONE_CPU, ("", {"OMP_NUM_THREADS": "2"})),
        (HERE, ONE_CPU),
        (("", {"OMP_NUM_THREADS": "4", "MKL_DYNAMIC": "FALSE"}), ONE_CPU),
    ],
    ids=["one-thread", "one-cpu", "replayed-on-one-cpu", "more-threads-than-cpus"],
)
def test_threads_are_as_recorded_whatever_is_here(repro, folder: Path, there: Place, here: Place) -> None:
    """The control: started by hand with what is here, the same training has other bits."""
    by_hand = _run(folder, there, "threads.py").stdout
    assert by_hand != _run(folder, here, "threads.py").stdout, "threads change nothing: this test shows nothing"
    recorded = _run(folder, there, *RECORD, sys.executable, "threads.py")
    replayed = _run(folder, here, *REPLAY)
    assert by_hand == recorded.stdout
    assert by_hand in replayed.stderr, "a replay's output goes where its progress goes"
    assert json.loads(replayed.stdout)["verdict"]["word"] == "MATCHED-EXACTLY"
    threads = {row["value"] for row in shown(repro, folder)["settings"] if row["name"] == "torch.num_threads"}
    assert {by_hand.split()[0]} == threads


def _told(run) -> dict[str, str]:
    return {fact["name"]: fact["value"] for fact in run["facts"] if fact["topic"] == "determinism"}


def test_strict_fails_the_run_with_torchs_own_message_and_the_record_names_the_line(repro, record, folder: Path):
    ran = record([sys.executable, "operation.py"], cwd=folder, options=["--determinism", "strict"])
    assert ran.exit_status == 1
    assert "RuntimeError: put_ does not have a deterministic implementation" in ran.err
    run = shown(repro, folder)
    told = _told(run)
    assert "strict" == told["mode"]
    assert "CUBLAS_WORKSPACE_CONFIG=:4096:8" in told["variables_set"]
    assert (
        f"put_ has no deterministic implementation: torch refused it, and the process ended, at {folder}"
        in told["operation.1"]
    )
    assert told["operation.1"].endswith("operation.py:9 in main")
    page = repro("show", "@last", cwd=folder).out
    assert "strict, operations without a deterministic implementation: 1" in page


def test_warn_goes_on_names_the_line_once_and_its_replay_warns_too(repro, record, folder: Path):
    own = {"NCCL_ALGO": "Tree"}
    ran = record([sys.executable, "operation.py"], cwd=folder, options=["--determinism", "warn"], variables=own)
    assert (0, "True\n") == (ran.exit_status, ran.out)
    assert "UserWarning: put_ does not have a deterministic implementation" in ran.err
    told = _told(shown(repro, folder))
    assert "NCCL_ALGO=Tree" == told["variables_kept"]
    assert {"operation.1", "change.1"} == {name for name in told if name.endswith(tuple("0123456789"))}
    assert told["change.1"].startswith(f"torch.backends.cudnn.benchmark: False → True at {folder}")
    replayed = repro("replay", "@last", "--executor", "host", cwd=folder)
    assert replayed.exit_status == 0
    assert replayed.out.startswith("MATCHED-EXACTLY")
    assert "determinism: warn" in replayed.err
    again = _told(shown(repro, folder))
    assert {"mode", "operation.1", "change.1"} == set(again)
    assert "warn" == again["mode"]
    difference = repro("diff", "@prev", "@last", cwd=folder)
    assert "determinism" not in difference.out


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one CPU: nothing races")
def test_a_race_that_never_repeats_itself_replays_exactly_under_strict(repro, record, folder: Path):
    racing = record([sys.executable, "race.py"], cwd=folder)
    assert racing.exit_status == 0
    digests = {line.split()[2] for line in racing.out.splitlines()}
    assert len(digests) > 1, "the operation does not race here: this test shows nothing"
    assert record([sys.executable, "race.py"], cwd=folder, options=["--determinism", "strict"]).exit_status == 0
    replayed = repro("replay", "@last", "--executor", "host", "--json", cwd=folder)
    assert (0, "MATCHED-EXACTLY") == (replayed.exit_status, replayed.answer["verdict"]["word"])
