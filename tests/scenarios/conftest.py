"""What the stories share: the command line as a user runs it, in real processes, and small real trainings."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

MEASURED_ALONE = """
import os, runpy
for name in [name for name in os.environ if "COVERAGE_PROCESS" in name]:
    del os.environ[name]
runpy.run_module("repro", run_name="__main__", alter_sys=True)
"""

TRAINING = '''
"""Fit a line by stochastic gradient descent: a training small enough for a test."""
import argparse, json, random
import torch

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--steps", type=int, default=12)
parser.add_argument("--data", default="data.json")
parser.add_argument("--unseeded", action="store_true")
args = parser.parse_args()
if not args.unseeded:
    torch.manual_seed(7)
    random.seed(7)
points = torch.tensor(json.load(open(args.data)))
model = torch.nn.Linear(1, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=args.lr)
for step in range(args.steps):
    batch = points[torch.randperm(len(points))[:4]] + random.gauss(0, 0.01)
    loss = ((model(batch[:, :1]) - batch[:, 1:]) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(step, loss.item().hex(), flush=True)
torch.save(model.state_dict(), "model.pt")
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a command printed, and its exit status."""

    exit_status: int
    out: str
    err: str

    @property
    def answer(self) -> Any:
        """The JSON on standard output."""
        return json.loads(self.out)


Repro = Callable[..., Ran]


@pytest.fixture(autouse=True)
def _unmeasured(unmeasured_jobs: None) -> None:
    """Coverage writes files in whatever it measures: no story's record may hold them."""


@pytest.fixture
def repro(repro_home: Path) -> Repro:
    """Return a function that runs `repro ARGUMENTS…` in a folder, with a home of this test's own."""

    def run(*arguments: str | Path, cwd: Path, variables: Mapping[str, str] | None = None, timeout: float = 300) -> Ran:
        hidden = {
            name.removeprefix("HIDDEN_"): value for name, value in os.environ.items() if name.startswith("HIDDEN_")
        }
        start = ["-c", MEASURED_ALONE] if hidden else ["-m", "repro"]
        done = subprocess.run(
            [sys.executable, *start, *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, **hidden, "REPRO_HOME": str(repro_home), **(variables or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Ran(exit_status=done.returncode, out=done.stdout, err=done.stderr)

    return run


@pytest.fixture
def record(repro: Repro) -> Callable[..., Ran]:
    """Return a function that records a command without waiting for the lock: the stories that need one say so."""

    def run(argv: Sequence[str | Path], *, cwd: Path, options: Sequence[str] = (), **more: Any) -> Ran:
        return repro("record", "--lock-timeout", "0", *options, "--", *argv, cwd=cwd, **more)

    return run


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a plain folder with a small training and its data; spaces and non-ASCII in its path, as users have."""
    folder = tmp_path / "Müller's models ✓"
    folder.mkdir()
    (folder / "train.py").write_text(TRAINING)
    (folder / "data.json").write_text(json.dumps([[x / 10, 0.3 * x + 1] for x in range(20)]))
    return folder


@pytest.fixture
def repository(project: Path) -> Path:
    """Return the same folder as a git repository whose data are not tracked."""
    (project / ".gitignore").write_text("data.json\nmodel.pt\n")
    git(project, "init", "-q")
    git(project, "add", "-A")
    git(project, "commit", "-qm", "Start")
    return project


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """Return a copy of the digits example with its data prepared."""
    folder = tmp_path / "digits"
    shutil.copytree(ROOT / "examples" / "digits", folder, ignore=shutil.ignore_patterns("data", "runs", "__pycache__"))
    subprocess.run([sys.executable, "prepare.py"], cwd=folder, check=True, capture_output=True)
    return folder


def git(folder: Path, *arguments: str) -> None:
    """Run git in a folder."""
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


def printed_losses(text: str) -> list[str]:
    """Return the exact losses that the small training printed."""
    return [line.split()[1] for line in text.splitlines() if line[:1].isdigit()]


def shown(repro: Repro, run: str, cwd: Path) -> Any:
    """Return a whole record, as `repro show --json` prints it."""
    ran = repro("show", run, "--json", cwd=cwd)
    assert ran.exit_status == 0, ran.err
    return ran.answer
