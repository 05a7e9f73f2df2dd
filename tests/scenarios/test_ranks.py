"""Several ranks, started in all the ways in which people start them: one record, each rank known, a replay bit for bit.

Nothing here is seeded but the data. Every rank draws its own weights, noise and, with workers, what these draw.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FRAMEWORKS = ROOT / "build" / "frameworks"

pytestmark = pytest.mark.torch

MODULE = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
EVERY_STEP = ["--trace-every", "1"]

NETWORK = """
import contextlib, sys, time, torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.middle, self.last = torch.nn.Linear(8, 16), torch.nn.Linear(16, 16), torch.nn.Linear(16, 1)
        self.dropout = torch.nn.Dropout(0.1)
    def forward(self, x, skip=False):
        x = torch.relu(self.first(x))
        return self.last(x if skip else self.middle(self.dropout(x)))

given = torch.Generator().manual_seed(5)
data = TensorDataset(torch.randn(48, 8, generator=given), torch.randn(48, 1, generator=given))

def error(model, x, y, **more):
    return ((model(x + 0.01 * torch.randn_like(x), **more) - y) ** 2).mean()
"""
WAYS = (
    NETWORK
    + """
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

def train(way):
    model = DistributedDataParallel(Net(), find_unused_parameters=way == "unused")
    if way == "hook":
        model.register_comm_hook(None, default_hooks.fp16_compress_hook)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    sampler = DistributedSampler(data, seed=int(torch.randint(1000, ())) if rank < 0 else 3)
    loader = DataLoader(data, 4, sampler=sampler, num_workers=2 if way == "workers" else 0)
    batches = list(loader)
    batches = batches[: len(batches) - (2 * rank if way == "uneven" else 0)]
    with model.join() if way == "uneven" else contextlib.nullcontext():
        for number, (x, y) in enumerate(batches):
            if way == "slow" and rank == 1:
                time.sleep(0.05)
            shared = way != "accumulate" or number % 2
            with contextlib.nullcontext() if shared else model.no_sync():
                error(model, x, y, skip=way == "unused" and number % 2 == rank).backward()
            if shared:
                optimizer.step()
                optimizer.zero_grad()

dist.init_process_group("gloo")
rank = dist.get_rank()
for way in sys.argv[1:]:
    train(way)
dist.destroy_process_group()
"""
)
RESUMED = (
    NETWORK
    + """
dist.init_process_group("gloo")
model = DistributedDataParallel(Net())
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
resume = len(sys.argv) > 1
if resume:
    kept = torch.load("checkpoint.pt", weights_only=True)
    model.load_state_dict(kept["model"])
    optimizer.load_state_dict(kept["optimizer"])
sampler = DistributedSampler(data)
sampler.set_epoch(int(resume))
for x, y in DataLoader(data, 4, sampler=sampler):
    error(model, x, y).backward()
    optimizer.step()
    optimizer.zero_grad()
if dist.get_rank() == 0:
    kept = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(kept, "resumed.pt" if resume else "checkpoint.pt")
dist.destroy_process_group()
"""
)
SHARDED = """
import torch, torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
dist.init_process_group("gloo")
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
mesh = init_device_mesh("cpu", (dist.get_world_size(),))
for part in (model[0], model[2], model):
    fully_shard(part, mesh=mesh)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for step in range(5):
    model(torch.randn(8, 8)).pow(2).mean().backward()
    optimizer.step()
    optimizer.zero_grad()
dist.destroy_process_group()
"""
SPAWNED = (
    NETWORK
    + """
import os
import torch.multiprocessing as mp

def work(rank, size, meeting):
    dist.init_process_group("gloo", init_method="file://" + meeting, rank=rank, world_size=size)
    model = DistributedDataParallel(Net())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in DataLoader(data, 8, sampler=DistributedSampler(data)):
        error(model, x, y).backward()
        optimizer.step()
        optimizer.zero_grad()
    dist.destroy_process_group()

if __name__ == "__main__":
    meeting = os.path.abspath("meeting")
    for method in ("fork", "spawn"):
        mp.start_processes(work, (2, meeting), nprocs=2, start_method=method)
        if os.path.exists(meeting):
            os.remove(meeting)
"""
)
BY_HAND = """
PORT='import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
export MASTER_ADDR=127.0.0.1 WORLD_SIZE=3
export MASTER_PORT=$("$PYTHON" -c "$PORT")
for rank in 2 1 0; do RANK=$rank "$PYTHON" train.py plain & ranks="$ranks $!"; done
for rank in $ranks; do wait $rank || exit 1; done
"""
LIGHTNING = """
import sys, torch
from lightning.pytorch import LightningModule, Trainer

class Model(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
    def training_step(self, batch, index):
        return self.layer(batch[0] + 0.01 * torch.randn_like(batch[0])).pow(2).mean()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)
    def train_dataloader(self):
        samples = torch.randn(32, 4, generator=torch.Generator().manual_seed(1))
        return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(samples), 4, shuffle=True)

if __name__ == "__main__":
    trainer = Trainer(
        max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        accelerator="cpu", strategy=sys.argv[1], devices=2,
    )
    trainer.fit(Model())
"""
ACCELERATE = """
import torch
from accelerate import Accelerator
accelerator = Accelerator(cpu=True)
samples = torch.randn(32, 4, generator=torch.Generator().manual_seed(1))
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(samples), 4, shuffle=True)
model = torch.nn.Linear(4, 1)
model, optimizer, loader = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), lr=0.01), loader)
for (x,) in loader:
    accelerator.backward(model(x).pow(2).mean())
    optimizer.step()
    optimizer.zero_grad()
accelerator.end_training()
"""
TRANSFORMERS = """
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments
config = BertConfig(
    vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
    max_position_embeddings=16,
)
given = torch.Generator().manual_seed(1)
samples = [
    {"input_ids": torch.randint(0, 50, (8,), generator=given), "labels": torch.tensor(number % 2)}
    for number in range(32)
]
arguments = TrainingArguments(
    output_dir="out", per_device_train_batch_size=4, num_train_epochs=1, use_cpu=True, report_to=[],
    save_strategy="no", logging_steps=1, disable_tqdm=True,
)
Trainer(model=BertForSequenceClassification(config), args=arguments, train_dataset=samples).train()
"""
FAULTY = (
    NETWORK
    + """
fault = sys.argv[1] if len(sys.argv) > 1 else ""
torch.manual_seed(11)
dist.init_process_group("gloo")
here = dist.get_rank() == 1
if fault == "sample" and here:
    data.tensors[0][list(DistributedSampler(data, shuffle=False))[9]] += 0.5  # the second sample of its third batch
net = Net()
model = DistributedDataParallel(net)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step, (x, y) in enumerate(DataLoader(data, 4, sampler=DistributedSampler(data, shuffle=False))):
    if fault == "bit" and here and step == 4:
        with torch.no_grad():
            net.middle.bias.view(torch.int32)[3] ^= 1
    error(model, x, y).backward()
    optimizer.step()
    optimizer.zero_grad()
dist.destroy_process_group()
"""
)


def told(record: Any) -> list[tuple[Any, ...]]:
    """Return all that a record's trace says, but for times."""
    rows = record["fingerprints"]
    return [(r["process_key"], r["anchor"], r["step"], r["place"], r["field"], r["words"]) for r in rows]


def ranks_of(record: Any) -> dict[str, tuple[int, int]]:
    """Return rank and world size of each process that has a trace; no other process may have one."""
    traced = {row["process_key"] for row in record["fingerprints"]}
    return {p["process_key"]: (p["rank"], p["world_size"]) for p in record["processes"] if p["process_key"] in traced}


def steps(record: Any, key: str, anchor: str = "optimizer.0") -> list[int]:
    return sorted({r["step"] for r in record["fingerprints"] if (r["process_key"], r["anchor"]) == (key, anchor)})


@pytest.fixture
def twice(repro: Any, record: Any, tmp_path: Path) -> Any:
    """Return a function that records a command with every step traced, replays it, and returns the record.

    The replay must match exactly, in every fingerprint of every rank, and each process must have its old key.
    """

    def run(argv: list[str], **more: Any) -> Any:
        recorded = record(argv, cwd=tmp_path, options=EVERY_STEP, **more)
        assert recorded.exit_status == 0, recorded.err
        first = repro("show", "@last", "--json", cwd=tmp_path).answer
        replayed = repro("replay", "@last", "--executor", "host", "--json", cwd=tmp_path)
        assert replayed.out, replayed.err
        assert "MATCHED-EXACTLY" == replayed.answer["verdict"]["word"], replayed.answer["verdict"]["sentence"]
        second = repro("show", "@last", "--json", cwd=tmp_path).answer
        keys = [sorted(process["process_key"] for process in each["processes"]) for each in (first, second)]
        assert keys[0] == keys[1]
        assert ranks_of(first) == ranks_of(second)
        assert told(first)
        assert sorted(told(first)) == sorted(told(second))
        assert [] == [gap for gap in first["gaps"] if gap["topic"] in ("trace", "agent", "randomness")]
        return first

    return run


@pytest.fixture(scope="module")
def frameworks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the variables that make the training frameworks importable, as if they were installed."""
    if not (FRAMEWORKS / "lightning").exists():
        pytest.skip("frameworks: they are not installed")
    folder = tmp_path_factory.mktemp("installed") / "site-packages"
    try:
        shutil.copytree(FRAMEWORKS, folder, copy_function=os.link)
    except OSError:  # another file system
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(FRAMEWORKS, folder)
    return {"PYTHONPATH": str(folder)}


def test_two_ranks_in_every_way_of_data_parallel_training(repro, twice, tmp_path: Path) -> None:
    ways = ["plain", "accumulate", "uneven", "unused", "hook", "workers", "slow"]
    (tmp_path / "train.py").write_text(WAYS)
    found = twice([*MODULE, "2", "train.py", *ways])
    assert {"main/rank0": (0, 2), "main/rank1": (1, 2)} == ranks_of(found)
    taken = [[len(steps(found, f"main/rank{r}", f"optimizer.{n}")) for r in (0, 1)] for n in range(len(ways))]
    expected = {"accumulate": [3, 3], "uneven": [6, 4]}
    assert [expected.get(way, [6, 6]) for way in ways] == taken
    workers = [p["process_key"] for p in found["processes"] if "/fork." in p["process_key"]]
    assert [f"main/rank{r}/fork.{n}" for r in (0, 1) for n in (1, 2)] == sorted(workers)
    losses = [[m["value"] for m in found["metrics"] if m["process_key"] == f"main/rank{r}"] for r in (0, 1)]
    assert losses[0] != losses[1], "each rank drew data and noise of its own"
    out = repro("show", "@prev", cwd=tmp_path).out
    assert len(ways) == out.count("the same in ranks 0, 1 at"), out


def test_four_ranks_go_on_from_a_checkpoint(repro, record, twice, tmp_path: Path) -> None:
    """By `torchrun`, which gives each of them one thread: there are more than processors, often."""
    (tmp_path / "train.py").write_text(RESUMED)
    launcher = [str(Path(sys.executable).parent / "torchrun"), "--standalone", "--nproc-per-node", "4", "train.py"]
    assert record(launcher, cwd=tmp_path).exit_status == 0
    found = twice([*launcher, "resume"])
    assert {f"main/rank{rank}": (rank, 4) for rank in range(4)} == ranks_of(found)
    threads = {
        s["value"] for s in found["settings"] if s["name"] == "torch.num_threads" and s["moment"] == "first-step"
    }
    assert {"1"} == threads
    assert "the same in ranks 0, 1, 2, 3 at 3 traced steps" in repro("show", "@prev", cwd=tmp_path).out


def test_sharded_weights(repro, twice, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SHARDED)
    found = twice([*MODULE, "2", "train.py"])
    assert {"main/rank0": (0, 2), "main/rank1": (1, 2)} == ranks_of(found)
    assert {"[8, 8]", "[8]", "[2, 16]", "[2]", "[1, 16]", "[1]"} == {t["shape"] for t in found["traced_tensors"]}
    out = repro("show", "@prev", cwd=tmp_path).out
    assert "in ranks 0, 1" not in out, "shards are not replicas"


def test_ranks_that_the_script_itself_starts(repro, twice, tmp_path: Path) -> None:
    """By `torch.multiprocessing`, forked and then spawned: the group that they join tells their rank."""
    (tmp_path / "train.py").write_text(SPAWNED)
    found = twice([sys.executable, "train.py"])
    keys = ("main/fork.1", "main/fork.2"), ("main/-c.2", "main/-c.3")
    assert {key: (rank, 2) for both in keys for rank, key in enumerate(both)} == ranks_of(found)
    assert [[0, 1, 2]] * 4 == [steps(found, key) for both in keys for key in both]
    assert 2 == repro("show", "@prev", cwd=tmp_path).out.count("the same in ranks 0, 1 at 3 traced steps")


def test_ranks_that_a_shell_starts(twice, tmp_path: Path) -> None:
    """They race each other to wake, and none is first: their keys are their ranks. Nobody limits their threads."""
    (tmp_path / "train.py").write_text(WAYS)
    (tmp_path / "run.sh").write_text(BY_HAND)
    found = twice(["sh", "run.sh"], variables={"PYTHON": sys.executable})
    assert {f"rank{rank}": (rank, 3) for rank in range(3)} == ranks_of(found)


@pytest.mark.parametrize("strategy", ["ddp", "ddp_spawn"])
def test_lightning_s_own_launchers(twice, frameworks, tmp_path: Path, strategy: str) -> None:
    (tmp_path / "train.py").write_text(LIGHTNING)
    found = twice([sys.executable, "train.py", strategy], variables=frameworks)
    keys = {"ddp": ["main", "main/train.py.1"], "ddp_spawn": ["main/-c.2", "main/-c.3"]}[strategy]
    assert {key: (rank, 2) for rank, key in enumerate(keys)} == ranks_of(found)
    assert [list(range(8))] * 2 == [steps(found, key) for key in keys]


def test_accelerate_launch(twice, frameworks, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(ACCELERATE)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    found = twice([*launch, "train.py"], variables=frameworks)
    assert {"main/rank0": (0, 2), "main/rank1": (1, 2)} == ranks_of(found)


def test_transformers_under_torchrun(twice, frameworks, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRANSFORMERS)
    found = twice([*MODULE, "2", "train.py"], variables=frameworks)
    assert {"main/rank0": (0, 2), "main/rank1": (1, 2)} == ranks_of(found)
    assert [list(range(4))] * 2 == [steps(found, f"main/rank{rank}") for rank in (0, 1)]


def test_what_differs_on_one_rank_alone_is_found_there(repro, record, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(FAULTY)
    runs = []
    for fault in ([], ["sample"], ["bit"]):
        ran = record([*MODULE, "2", "train.py", *fault], cwd=tmp_path, options=EVERY_STEP)
        assert ran.exit_status == 0, ran.err
        runs.append(repro("show", "@last", "--json", cwd=tmp_path).answer["run"]["run_id"])
    clean, sample, bit = runs

    found = repro("diff", clean, sample, "--json", cwd=tmp_path).answer
    first = found["trace"]["first"]
    assert ("main/rank1", 1, "optimizer.0", 2, "batch") == (
        *(first[name] for name in ("process_key", "rank", "anchor", "step")),
        first["what"]["field"],
    )
    assert [] == found["replicas"], "its gradients were shared, so that all ranks went on together"

    found = repro("diff", clean, bit, "--json", cwd=tmp_path).answer
    first = found["trace"]["first"]
    assert ("main/rank1", 1, 4, "weight") == (
        *(first[name] for name in ("process_key", "rank", "step")),
        first["what"]["field"],
    )
    assert [("module.middle.bias", "[16]")] == [(t["name"], t["shape"]) for t in first["what"]["tensors"]]
    ((run_id, sentence),) = [(row["run"], row["sentence"]) for row in found["replicas"]]
    assert bit == run_id
    assert "they differ from step 4 on, in the weights before the step (1 of 6 tensors: module.middle.bias" in sentence
    assert sentence in repro("show", bit, cwd=tmp_path).out
