"""Every kind of training replays bit for bit, unseeded as well as seeded, and the recorder changes no bit of it.

The scripts lie in `trainings/`, and none of them has a seed. The seeded ones are the same with one line before them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

pytestmark = pytest.mark.torch

ROOT: Final = Path(__file__).resolve().parents[2]
FRAMEWORKS: Final = ROOT / "build" / "frameworks"
SEEDS: Final = "import random, numpy; random.seed(5); numpy.random.seed(5)\n"
SEEDS_OF_TORCH: Final = SEEDS + "import torch; torch.manual_seed(5)\n"
WAYS: Final = ("unseeded", "seeded")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A training, and what of it must have been compared.

    `steps` are the steps that are traced, of each optimizer in the order of their first steps: the first nine of no
    more than sixteen, and the 17th of up to 24.
    """

    script: str
    arguments: tuple[str, ...] = ()
    steps: tuple[int, ...] = ()
    anchors: str = "optimizer.{}"
    gaps: frozenset[str] = frozenset()
    """Of the trace: what a training of this kind has not."""
    library: str | None = None
    outputs: int = 0
    state: str = "identical"
    """Of its outputs. A checkpoint of Lightning holds the path of its folder too: its bytes differ, no tensor does."""
    seeds: str = SEEDS_OF_TORCH
    variables: tuple[tuple[str, str], ...] = ()


Story = Callable[[Kind], dict[str, Any]]


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of one home for each way: what is known of the environment is looked at once."""
    return tmp_path_factory.mktemp("homes")


@pytest.fixture
def story(repro: Any, homes: Path, tmp_path: Path) -> Story:
    """Return a function that records and replays a training both ways at once, and compares what it printed."""

    def tell(kind: Kind, way: str) -> Any:
        folder = tmp_path / way
        variables = {**dict(kind.variables), "REPRO_HOME": str(homes / way)}
        if kind.library is not None:
            variables["PYTHONPATH"] = str(FRAMEWORKS)
        argv = [sys.executable, "train.py", *kind.arguments]
        printed = _bare(argv, folder, variables) if way == "seeded" else None
        recorded = repro("record", "--lock-timeout", "0", "--", *argv, cwd=folder, variables=variables)
        assert recorded.exit_status == 0, recorded.err
        assert printed in (None, _exact(recorded.out)), "the recorder changes bits"
        replayed = repro("replay", "@last", "--executor", "host", "--json", cwd=folder, variables=variables)
        assert replayed.out, replayed.err
        assert replayed.answer["verdict"]["word"] == "MATCHED-EXACTLY", replayed.answer["verdict"]
        records = [repro("show", run, "--json", cwd=folder, variables=variables).answer for run in ("@prev", "@last")]
        _no_other_gaps(kind, records)
        return replayed.answer["verdict"]

    def both(kind: Kind) -> dict[str, Any]:
        if kind.library is not None and not (FRAMEWORKS / kind.library).exists():
            pytest.skip(f"frameworks: {kind.library} is not installed")
        script = (ROOT / "tests" / "scenarios" / "trainings" / kind.script).read_text()
        for way, prelude in zip(WAYS, ("", kind.seeds), strict=True):
            (tmp_path / way).mkdir(exist_ok=True)
            (tmp_path / way / "train.py").write_text(prelude + script)
        with ThreadPoolExecutor(len(WAYS)) as threads:
            return dict(zip(WAYS, threads.map(lambda way: tell(kind, way), WAYS), strict=True))

    return both


def _bare(argv: list[str], folder: Path, variables: dict[str, str]) -> list[str]:
    """Return what a training prints with no recorder; its files are left in a folder of their own."""
    alone = folder.with_name(f"{folder.name}-bare")
    shutil.copytree(folder, alone)
    environment = {**os.environ, **variables}
    done = subprocess.run(argv, cwd=alone, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert _exact(done.stdout)
    return _exact(done.stdout)


def _exact(printed: str) -> list[str]:
    """Return the lines with exact numbers: frameworks print times besides."""
    return [line for line in printed.splitlines() if " 0x" in f" {line}"]


def _no_other_gaps(kind: Kind, records: list[Any]) -> None:
    for record in records:
        gaps = [gap for gap in record["gaps"] if gap["topic"] in ("trace", "randomness", "agent", "lineage", "data")]
        assert {gap["subject"] for gap in gaps if gap["topic"] == "trace"} == kind.gaps, gaps
        assert not [gap for gap in gaps if gap["topic"] != "trace"], gaps


def _traced(verdict: Any) -> tuple[tuple[str, int], ...]:
    """Return the anchors and how many of their steps were traced on both sides, each of them equal."""
    found = []
    for anchor in verdict["trace"]["anchors"]:
        assert anchor["fingerprints"] > anchor["compared_steps"] > 0
        assert anchor["left_steps"] == anchor["right_steps"] == anchor["compared_steps"] == anchor["equal_steps"]
        assert anchor["process_key"] == "main"
        found.append((anchor["anchor"], anchor["compared_steps"]))
    return tuple(sorted(found))


KINDS: Final = {
    "images: convolutions, bfloat16, scaled gradients": Kind(script="images.py", steps=(9, 9, 7), outputs=1),
    "sequences: transformer, LSTM, sparse gradients": Kind(script="sequences.py", steps=(9, 9, 9, 9)),
    "optimizers: GAN, LBFGS, a body that thaws": Kind(script="optimizers.py", steps=(10, 9, 9, 9)),
    "written by hand": Kind(script="by_hand.py", steps=(10,), anchors="backward", gaps=frozenset({"learning_rate"})),
    "compiled": Kind(script="compiled.py", steps=(9,)),
    "workers: fork": Kind(script="workers.py", arguments=("fork",), steps=(10,)),
    "workers: spawn": Kind(script="workers.py", arguments=("spawn",), steps=(10,)),
    "workers: forkserver": Kind(script="workers.py", arguments=("forkserver",), steps=(10,)),
    "Lightning": Kind(script="with_lightning.py", steps=(9,), library="lightning", outputs=1, state="same-tensors"),
    "Transformers": Kind(script="with_transformers.py", steps=(9,), library="transformers", outputs=8),
    "Keras": Kind(
        script="with_keras.py",
        steps=(10,),
        anchors="backward",
        gaps=frozenset({"learning_rate"}),
        library="keras",
        outputs=1,
        variables=(("KERAS_BACKEND", "torch"),),
    ),
    "Accelerate": Kind(script="with_accelerate.py", steps=(9,), library="accelerate", outputs=1),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_training_replays_to_the_last_bit(story: Story, kind: Kind) -> None:
    expected = tuple((kind.anchors.format(number), steps) for number, steps in enumerate(kind.steps))
    for verdict in story(kind).values():
        assert _traced(verdict) == expected
        assert verdict["evidence"].count("Loss equal at") == 1
        # Keras leaves its settings in the home, once
        states = [output["state"] for output in verdict["outputs"] if not output["path"].startswith("/")]
        assert len(states) >= kind.outputs
        assert set(states) <= {"identical", kind.state}


def test_a_training_that_goes_on_replays_to_the_last_bit(story: Story, tmp_path: Path) -> None:
    """The checkpoint comes from a run that is not recorded, and holds the data that it drew."""
    script = ROOT / "tests" / "scenarios" / "trainings" / "resumed.py"
    subprocess.run([sys.executable, script], cwd=tmp_path, check=True, capture_output=True)
    for way in WAYS:
        (tmp_path / way).mkdir()
        shutil.copy(tmp_path / "epoch-0.pt", tmp_path / way)
    verdicts = story(Kind(script="resumed.py", arguments=("epoch-0.pt",)))
    for verdict in verdicts.values():
        assert _traced(verdict) == (("optimizer.0", 9),)
        assert [(output["path"], output["state"]) for output in verdict["outputs"]] == [("epoch-1.pt", "identical")]


ESTIMATORS: Final = {
    "scikit-learn": Kind(script="with_sklearn.py", outputs=3, seeds=SEEDS),
    "XGBoost": Kind(script="with_xgboost.py", library="xgboost", outputs=1, seeds=SEEDS),
    "LightGBM": Kind(script="with_lightgbm.py", library="lightgbm", outputs=1, seeds=SEEDS),
}


@pytest.mark.parametrize("kind", ESTIMATORS.values(), ids=ESTIMATORS)
def test_an_estimator_replays_to_the_last_byte(story: Story, kind: Kind) -> None:
    """There are no steps to trace: what was evaluated is compared, and the bytes of the model."""
    for verdict in story(kind).values():
        assert [output["state"] for output in verdict["outputs"]] == ["identical"] * kind.outputs
        assert verdict["metrics"]
        assert all(metric["equal_steps"] == metric["compared_steps"] > 0 for metric in verdict["metrics"])
