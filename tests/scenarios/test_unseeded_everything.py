"""A script that seeds nothing, and lets chance into everything it can, replays to the last bit with no change to it."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.torch

UNSEEDED = '''
"""Train on a folder of files, with no seed anywhere."""
import glob, json, os, pathlib, random, secrets, subprocess, sys, tempfile, threading, time, uuid
import numpy as np
import torch


class Samples(torch.utils.data.Dataset):
    def __init__(self, folder):
        self.paths = [os.path.join(folder, name) for name in os.listdir(folder)]

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        value = json.load(open(self.paths[index]))
        noise = random.gauss(0, 1) + np.random.rand() + torch.rand(1).item() + np.random.default_rng().random()
        return torch.tensor([value, noise])


def main(folder, out):
    run = os.path.join(out, f"run-{uuid.uuid4()}")
    os.makedirs(run)
    random.seed(time.time())
    early = np.random.RandomState(int(time.time() * 1e6) % 2**32)
    words = [word for word in {"learning", "rate", "loss", "step", "batch", "epoch"}]
    orders = [os.listdir(folder), [entry.name for entry in os.scandir(folder)], glob.glob(folder + "/*"),
              [path.name for path in pathlib.Path(folder).iterdir()]]
    numbers = [random.random(), early.rand(), np.random.rand(), np.random.default_rng().random(),
               np.random.Generator(np.random.PCG64(time.time_ns())).random(),
               torch.rand(1).item(), torch.Generator().seed(), tempfile.mktemp(dir="/x"), uuid.uuid1().hex,
               random.Random(secrets.token_hex()).random()]
    children = [subprocess.Popen([sys.executable, "-c", "import random; print(random.random())"],
                                 stdout=subprocess.PIPE, text=True) for _ in range(3)]
    numbers += [child.communicate()[0] for child in children]
    thread = threading.Thread(target=lambda: numbers.append(random.Random().random()))
    thread.start(), thread.join()
    model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=random.uniform(0.01, 0.1))
    losses = []
    for method in ("fork", "spawn"):
        loader = torch.utils.data.DataLoader(Samples(folder), batch_size=4, shuffle=True, num_workers=2,
                                             multiprocessing_context=method)
        for batch in loader:
            loss = (model(batch) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item().hex())
    told = [words, orders, numbers, losses]
    with open(os.path.join(run, "told.json"), "w") as stream:
        json.dump(told, stream)
    torch.save(model.state_dict(), os.path.join(run, "model.pt"))
    print(json.dumps(told), run)


if __name__ == "__main__":
    main(*sys.argv[1:])
'''

FILES = range(24)


@pytest.fixture
def samples() -> Iterator[Path]:
    """Return a folder of small files, on a file system that lists the latest first, where there is one."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as top:
        folder = Path(top) / "samples"
        write(folder, list(FILES))
        yield folder


def write(folder: Path, numbers: list[int]) -> list[str]:
    """Write the files in the order of their numbers, and return the order in which the system lists them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for number in numbers:
        (folder / f"{number}.json").write_text(str(number / 10))
    return os.listdir(folder)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """Return the script, in a folder of its own."""
    folder = tmp_path / "unseeded"
    folder.mkdir()
    (folder / "train.py").write_text(UNSEEDED)
    return folder


def test_all_that_is_left_to_chance_is_put_back(repro, record, script: Path, samples: Path) -> None:
    before = os.listdir(samples)
    ran = record([sys.executable, "train.py", samples, "runs"], cwd=script)
    assert ran.exit_status == 0, ran.err
    first = repro("show", "@last", "--json", cwd=script).answer
    after = write(samples, list(reversed(FILES)))
    replayed = repro("replay", "@last", "--executor", "host", "--json", cwd=script)
    assert replayed.exit_status == 0, (replayed.out, replayed.err)
    assert replayed.answer["verdict"]["word"] == "MATCHED-EXACTLY"
    second = repro("show", "@last", "--json", cwd=script).answer
    assert [m["value"] for m in first["metrics"]] == [m["value"] for m in second["metrics"]]
    assert len(first["metrics"]) >= 12
    (put_back,) = [fact["value"] for fact in second["facts"] if fact["name"] == "put_back"]
    kinds = {entry.partition(":")[0] for entry in json.loads(put_back)}
    assert {"random.seed", "numpy.randbits", "uuid.uuid4", "torch.initial_seed", "os.listdir"} <= kinds
    listings = {row["stream"]: row["value"] for row in first["entropy"] if row["stream"].startswith("os.")}
    assert {"os.listdir samples", "os.scandir samples"} <= set(listings)
    assert listings == {row["stream"]: row["value"] for row in second["entropy"] if row["stream"].startswith("os.")}
    if not os.path.isdir("/dev/shm"):
        pytest.skip("this file system lists names in the same order, however they were made")
    assert before != after
    assert not [gap for gap in first["gaps"] + second["gaps"] if gap["topic"] == "randomness"]


def test_without_a_replay_it_differs(repro, record, script: Path, samples: Path) -> None:
    for _ in range(2):
        assert record([sys.executable, "train.py", samples, "runs"], cwd=script).exit_status == 0
    assert repro("diff", "@prev", "@last", cwd=script).exit_status == 1
