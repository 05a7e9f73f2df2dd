"""Checkpoints that a process writes and reads: what is in them, and what going on from them needs."""

import json
from base64 import b64decode

import pytest
from event_logs import ROOT, of_kind

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

KINDS = """
import io, os, numpy, torch
from collections import OrderedDict
nn = torch.nn
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 4, bias=False))
model[2].weight = nn.Parameter(model[0].weight.detach().t())
optimizer = torch.optim.Adam(model.parameters())
for _ in range(3):
    optimizer.zero_grad()
    model(torch.randn(8, 4)).sum().backward()
    optimizer.step()

torch.save(model.state_dict(), "path.pt")
with open("object.pt", "wb") as file:
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}, file)
buffer = io.BytesIO(b"ahead"); buffer.seek(0, 2)
torch.save(model, buffer)
open("buffer.pt", "wb").write(buffer.getvalue()[5:])
torch.save([torch.arange(3), (numpy.arange(4.0), {7: torch.ones(2, dtype=torch.bfloat16), "none": None})], "list.pt")
torch.save({"epoch": 3, "name": "no tensor"}, "nothing.pt")
torch.save(OrderedDict(a=torch.tensor(1.5)), "tmp.pt"); os.replace("tmp.pt", "final.pt")
try:
    torch.save(model, "no/such/folder.pt")
except RuntimeError:
    pass
loaded = torch.load("path.pt")
torch.load("path.pt")
os.utime("path.pt", ns=(1, 1))
torch.load("path.pt", map_location="cpu")
torch.load(open("object.pt", "rb"), weights_only=True)
torch.load(io.BytesIO(open("list.pt", "rb").read()), weights_only=False)
assert torch.save.__name__ == "save" and torch.save is torch.serialization.save
print(loaded["0.weight"].sum().item().hex(), torch.rand(1).item().hex())
"""

RESUMED = """
import base64, json, os, random, sys
import numpy, torch
from torch.utils.data import DataLoader, Dataset
nn = torch.nn

class Augmented(Dataset):
    def __len__(self): return 48
    def __getitem__(self, index):
        return torch.randn(4) + numpy.random.rand() + random.random(), torch.tensor([index / 48])

def made():
    torch.manual_seed(5); numpy.random.seed(5); random.seed(5)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))
    loader = DataLoader(Augmented(), 4, shuffle=True, num_workers=WORKERS)
    return model, torch.optim.Adam(model.parameters(), 0.01), loader

def trained(model, optimizer, batches):
    for x, y in batches:
        x = x + numpy.random.rand() * 1e-2 + random.random() * 1e-2
        optimizer.zero_grad()
        loss = (model(x.float()) - y).square().mean()
        loss.backward()
        optimizer.step()
        yield loss.item().hex()

WORKERS = int(sys.argv[1])
if sys.argv[2] == "first":
    torch.rand(3)
    model, optimizer, loader = made()
    losses = list(trained(model, optimizer, loader))
    for number, loss in enumerate(trained(model, optimizer, loader)):
        losses.append(loss)
        if number == 4:
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, "middle.pt")
            losses.clear()
    print(*losses)
else:
    state = json.load(open("state.json"))
    model, optimizer, loader = made()
    saved = torch.load("middle.pt")
    model.load_state_dict(saved["model"]); optimizer.load_state_dict(saved["optimizer"])

    def put_back(suffix):
        held = {name: base64.b64decode(state["rng." + name + suffix]) for name in ("torch", "numpy", "python")}
        torch.set_rng_state(torch.frombuffer(bytearray(held["torch"]), dtype=torch.uint8))
        words = numpy.frombuffer(held["numpy"][:2496], "<u4")
        position, has_gauss, gauss = held["numpy"][2496:].decode().split()
        numpy.random.set_state(("MT19937", words, int(position), int(has_gauss), float.fromhex(gauss)))
        words = numpy.frombuffer(held["python"][:2500], "<u4").tolist()
        random.setstate((3, tuple(words), None))

    put_back(".epoch")
    batches = iter(loader)
    for _ in range(json.loads(state["loader.0"])["handed_out"]):
        next(batches)
    if sys.argv[2] == "again":
        put_back("")
    print(*trained(model, optimizer, batches))
"""

DISTRIBUTED = """
import os, torch, torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.nn.parallel import DistributedDataParallel
dist.init_process_group("gloo", init_method=f"file://{os.getcwd()}/store", rank=0, world_size=1)
model = DistributedDataParallel(torch.nn.Linear(3, 2))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for _ in range(2):
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
dcp.save({"model": model.state_dict()}, checkpoint_id="sharded")
dcp.async_save({"model": model.state_dict()}, checkpoint_id="later").result()
other = {"model": {name: torch.zeros_like(value) for name, value in model.state_dict().items()}}
dcp.load(other, checkpoint_id="sharded")
assert all(torch.equal(value, model.state_dict()[name]) for name, value in other["model"].items())
dist.destroy_process_group()
"""


SAMPLES = """
import torch
from torch.utils.data import DataLoader, Dataset

class Files(Dataset):
    def __len__(self): return 4
    def __getitem__(self, index): return torch.load(f"{index}.pt")

for number in range(4):
    torch.save(torch.full((2,), float(number)), f"{number}.pt")
for workers in (0, 2):
    for batch in DataLoader(Files(), 2, num_workers=workers):
        pass
torch.load("0.pt")
"""


def told(events):
    return of_kind(events, "checkpoint")


def by_name(event):
    words = [event["words"][place : place + 16] for place in range(0, len(event["words"]), 16)]
    rows = zip(event["names"], event["shapes"], event["dtypes"], words)
    return {name: (shape, dtype, word) for name, shape, dtype, word in rows}


def gaps(events):
    return [(gap["subject"], gap["reason"]) for gap in of_kind(events, "gap")]


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    from conftest import _run_agent

    folder = tmp_path_factory.mktemp("kinds")
    events, ran = _run_agent(folder, KINDS)
    assert (0, "") == (ran.returncode, ran.stderr)
    return events, folder, ran.stdout


def test_every_way_to_write_and_read_is_told(kinds, tmp_path):
    from conftest import _run_agent

    events, folder, out = kinds
    place = f"{folder}/"
    assert [
        ("written", place + "path.pt"),
        ("written", place + "object.pt"),
        ("written", ""),
        ("written", place + "list.pt"),
        ("written", place + "tmp.pt"),
        ("read", place + "path.pt"),
        ("read", place + "path.pt"),
        ("read", place + "object.pt"),
        ("read", ""),
    ] == [(each["action"], each["path"]) for each in told(events)]
    assert {"torch"} == {each["library"] for each in told(events)}
    assert all({"optimizer.0": 3} == each["steps"] for each in told(events))
    assert [] == gaps(events)
    _, bare = _run_agent(tmp_path, KINDS, agent=False)
    assert out == bare.stdout


def test_the_names_are_the_keys_and_equal_tensors_have_equal_words(kinds):
    events, *_ = kinds
    path, whole, module, listed, final, read, again, read_whole, read_list = map(by_name, told(events))
    assert ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"] == list(path)[:6]
    assert {f"model.{name}": value for name, value in path.items()} == {
        name: value for name, value in whole.items() if name.startswith("model.")
    }
    assert ([3, 4], "float32") == whole["optimizer.state.0.exp_avg"][:2]
    assert path == module == read == again
    assert (whole, listed) == (read_whole, read_list)
    assert {"0": "int64", "1.0": "float64", "1.1.7": "bfloat16"} == {name: row[1] for name, row in listed.items()}
    assert {"a": []} == {name: row[0] for name, row in final.items()}


def test_a_file_is_known_by_its_state_and_a_buffer_by_its_digest(kinds):
    import hashlib

    events, folder, _ = kinds
    path, opened, buffer, *_ = told(events)
    assert (folder / "path.pt").stat().st_size == path["size"]
    assert "mtime_ns" not in opened, "it is not whole yet"
    content = (folder / "buffer.pt").read_bytes()
    assert f"sha256:{hashlib.sha256(content).hexdigest()}" == buffer["sha256"]
    assert [path["sha256"], opened["sha256"]] == [None, None]


def test_the_state_stands_beside_what_holds_parameters(kinds):
    events, *_ = kinds
    states = [each["state"] for each in told(events)]
    assert [True, True, True, False] == [bool(state) for state in states[:4]]
    assert not any(states[5:]), "what is read has none"
    chain = of_kind(events, "trace")[-1]["chain"]
    assert {"rng.torch", "rng.numpy", "rng.python", "chain"} == set(states[0])
    assert chain == states[0]["chain"]
    assert 5056 == len(b64decode(states[0]["rng.torch"]))


@pytest.mark.parametrize("workers", [0, 2])
def test_the_state_is_enough_to_go_on_in_the_middle_of_an_epoch(run_agent, tmp_path, workers):
    events, first = run_agent(RESUMED, arguments=(str(workers), "first"))
    assert (0, "") == (first.returncode, first.stderr)
    (middle,) = told(events)
    assert {"asked": 5 + 2 * workers, "ended": False, "epoch": 1, "handed_out": 5} == json.loads(
        middle["state"]["loader.0"]
    )
    assert {"optimizer.0": 17} == middle["steps"]
    (tmp_path / "state.json").write_text(json.dumps(middle["state"]))
    events, again = run_agent(RESUMED, arguments=(str(workers), "again"))
    assert (0, "") == (again.returncode, again.stderr)
    assert 7 == len(again.stdout.split())
    assert first.stdout == again.stdout
    (read,) = told(events)
    assert (by_name(middle), "read") == (by_name(read), read["action"])
    _, without = run_agent(RESUMED, arguments=(str(workers), "epoch alone"))
    assert first.stdout != without.stdout, "the generators of now are needed"


def test_sharded_checkpoints_and_the_buckets_of_ddp(run_agent, tmp_path):
    events, ran = run_agent(DISTRIBUTED)
    assert 0 == ran.returncode, ran.stderr
    written, later, read = told(events)
    library = "torch.distributed.checkpoint"
    assert [("written", str(tmp_path / "sharded"), library), ("written", str(tmp_path / "later"), library)] == [
        (each["action"], each["path"], each["library"]) for each in (written, later)
    ]
    assert by_name(written) == by_name(later) == by_name(read)
    assert ["model.module.weight", "model.module.bias"] == list(by_name(read))
    buckets = json.loads(written["state"]["ddp.0"])
    assert "32" == buckets["bucket_sizes"], "8 numbers of 4 bytes"
    assert [] == [gap for gap in gaps(events) if "checkpoint" in gap[0]]


def test_samples_are_no_checkpoints(run_agent, tmp_path):
    events, ran = run_agent(SAMPLES)
    assert (0, "") == (ran.returncode, ran.stderr)
    read = [each["path"] for each in told(events) if each["action"] == "read"]
    assert [str(tmp_path / "0.pt")] == read, "the one that no loader asked for"
    opened = {each["path"] for each in of_kind(events, "open") if each["mode"] == "read"}
    assert {str(tmp_path / f"{number}.pt") for number in range(4)} <= opened


def test_events_are_as_the_schema_says(kinds):
    import jsonschema

    events, *_ = kinds
    validator = jsonschema.Draft202012Validator(json.loads((ROOT / "schemas/event-1.json").read_text()))
    rows = [{name: value for name, value in each.items() if name != "process_key"} for each in told(events)]
    assert [] == [str(error.message) for row in rows for error in validator.iter_errors(row)]


def test_nothing_is_told_where_the_trace_is_off(run_agent):
    events, ran = run_agent(KINDS, env={"REPRO_TRACE_EVERY": "0"})
    assert 0 == ran.returncode, ran.stderr
    assert [] == told(events)
    assert any(each["library"] == "torch" for each in of_kind(events, "open"))
