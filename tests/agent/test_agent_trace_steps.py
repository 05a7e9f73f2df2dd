"""The trace of real trainings: it changes no bit of them, and names the step, the field and the tensor of a change."""

import hashlib
import json
from pathlib import Path

import pytest
from event_logs import ROOT, of_kind

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

TRAININGS = (Path(__file__).parent / "trainings.py").read_text()

CHANGES = ["again", "seed", "sample", "order", "weight", "draw", "python", "threads", "rate", "moment", "gradient"]
CHANGED = """
import os, random, sys
import numpy, torch
from torch.utils.data import DataLoader, TensorDataset
nn = torch.nn

def train(change):
    torch.manual_seed(2 if change == "seed" else 1); numpy.random.seed(1); random.seed(1)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 1))
    scale = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.AdamW([{"params": model.parameters()}, {"params": [scale]}], lr=0.01)
    x, y, many = torch.randn(640, 64), torch.randn(640, 1), torch.randn(200_000)
    order = torch.randperm(640, generator=torch.Generator().manual_seed(9)).tolist()
    if change == "sample": x[order[11 * 32]] += 1e-3
    if change == "order": order[11 * 32], order[12 * 32] = order[12 * 32], order[11 * 32]
    for step, (a, b) in enumerate(DataLoader(TensorDataset(x, y), 32, sampler=order)):
        if step == 11:
            if change == "weight": model[3].weight.data.view(torch.int32)[0, 7] ^= 1
            if change == "draw": torch.rand(1)
            if change == "python": random.random()
            if change == "threads": torch.set_num_threads(2)
            if change == "rate": optimizer.param_groups[0]["lr"] = 0.0101
            if change == "moment": optimizer.state[model[0].weight]["exp_avg"].view(torch.int32)[0, 7] ^= 2
        optimizer.zero_grad()
        loss = ((model(a) - b) ** 2).mean() + (many * scale).sum() * 1e-3
        loss.backward()
        if step == 11 and change == "gradient": model[0].weight.grad.view(torch.int32)[0, 7] ^= 1
        optimizer.step()

torch.set_num_threads(1)
train("none")
for change in sys.argv[1:]:
    child = os.fork()
    if not child:
        train(change)
        sys.exit()
    assert os.waitpid(child, 0)[1] == 0
"""

FIRST = {
    "seed": (0, "batch", [0, 1]),
    "sample": (11, "batch", [0]),
    "order": (11, "order", [0]),
    "weight": (11, "weight", [2]),
    "draw": (11, "rng.torch", [0]),
    "python": (11, "rng.python", [0]),
    "threads": (11, "gradient", [4]),
    "rate": (11, "hyperparameter", [0]),
    "moment": (11, "state", [0]),
    "gradient": (11, "gradient", [0]),
}


def words(event):
    return [event["words"][place : place + 16] for place in range(0, len(event["words"]), 16)]


def fields(events, key, anchor=None):
    """Return the trace of a process as (step, field, words), in the order of its telling."""
    told = of_kind(events, "trace", key)
    return [(each["step"], each["field"], words(each)) for each in told if anchor in (None, each["anchor"])]


def gaps(events):
    return [(gap["subject"], gap["reason"]) for gap in of_kind(events, "gap")]


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    """One training, and forked children that each repeat it with one change at step 11."""
    from conftest import _run_agent

    folder = tmp_path_factory.mktemp("changed")
    events, finished = _run_agent(folder, CHANGED, arguments=tuple(CHANGES), env={"REPRO_TRACE_EVERY": "1"})
    assert (0, "") == (finished.returncode, finished.stderr)
    return events, folder


def test_no_training_differs_by_a_bit(run_agent):
    events, watched = run_agent(TRAININGS, env={"REPRO_TRACE_EVERY": "1"})
    _, bare = run_agent(TRAININGS, agent=False)
    assert (0, 0) == (bare.returncode, watched.returncode), watched.stderr
    assert bare.stdout.splitlines() == watched.stdout.splitlines()
    assert 12 == len(bare.stdout.splitlines())
    assert [] == gaps(events)
    tensors = [(each["anchor"], each["step"], each["names"]) for each in of_kind(events, "tensors")]
    assert [f"optimizer.{number}" for number in range(12)] == list(dict.fromkeys(anchor for anchor, *_ in tensors))
    assert {("optimizer.8", 0): ["weight"], ("optimizer.8", 5): ["weight", "bias"]} == {
        (anchor, step): names for anchor, step, names in tensors if anchor == "optimizer.8"
    }


@pytest.mark.parametrize("change", FIRST)
def test_the_first_difference_is_the_change(changed, change):
    events, _ = changed
    recorded = fields(events, "main")
    replayed = fields(events, f"main/fork.{CHANGES.index(change) + 1}")
    assert [each[:2] for each in recorded] == [each[:2] for each in replayed]
    differing = [
        (a[0], a[1], [place for place, pair in enumerate(zip(a[2], b[2])) if pair[0] != pair[1]])
        for a, b in zip(recorded, replayed)
        if a != b
    ]
    assert FIRST[change] == differing[0]
    if change == "python":
        assert {"rng.python"} == {field for _, field, _ in differing}


def test_the_same_training_has_the_same_trace_in_causal_order(changed):
    events, _ = changed
    recorded = fields(events, "main")
    assert recorded == fields(events, "main/fork.1")
    assert [
        *("order", "batch", "rng.torch", "rng.numpy", "rng.python", "weight", "gradient", "hyperparameter"),
        *("parameter", "state", "sketch"),
    ] == [field for step, field, _ in recorded if step == 5]
    assert list(range(20)) == sorted({step for step, *_ in recorded})
    by_place = {(step, field): told for step, field, told in recorded}
    assert all(by_place[step, "parameter"] == by_place[step + 1, "weight"] for step in range(19))
    (tensors,) = of_kind(events, "tensors", "main")
    assert ["0.weight", "0.bias", "3.weight", "3.bias", "group.1.0"] == tensors["names"]
    assert [[32, 64], [32], [1, 32], [1], [1]] == tensors["shapes"]
    assert [] == gaps(events)


def test_the_chain_binds_each_event_to_those_before(changed):
    events, _ = changed
    for key in ("main", *(f"main/fork.{number + 1}" for number in range(len(CHANGES)))):
        head = f"repro trace 1 {key}"
        for event in of_kind(events, "trace", key):
            text = "\n".join((head, event["anchor"], str(event["step"]), event["field"], event["words"]))
            head = hashlib.sha256(text.encode()).hexdigest()
            assert head == event["chain"]


def test_events_of_the_trace_are_as_the_schema_says(changed):
    import jsonschema

    _, folder = changed
    validator = jsonschema.Draft202012Validator(json.loads((ROOT / "schemas/event-1.json").read_text()))
    path = max((folder / "events.0").glob("*.jsonl"), key=lambda path: path.stat().st_size)
    lines = [json.loads(line) for line in path.read_bytes().rstrip(b"\0").splitlines()]
    assert {"trace", "tensors"} <= {line["event"] for line in lines}
    assert [] == [error.message for line in lines for error in validator.iter_errors(line)]


SCHEDULE = """
import torch
weight = torch.nn.Parameter(torch.ones(3))
optimizer = torch.optim.SGD([weight], lr=0.5)
for step in range(40):
    (weight ** 2).sum().backward(); optimizer.step()
"""
ALWAYS = {*range(8), 8, 16, 32}


def traced(events):
    return sorted({event["step"] for event in of_kind(events, "trace")})


def schedule_told(events):
    told = of_kind(events, "setting")
    first = [each for each in told if each["moment"] == "first-step"]
    return {each["name"]: each["value"] for each in first if each["name"].startswith("trace.")}


def test_a_chosen_schedule_is_told_and_put_back(run_agent):
    events, _ = run_agent(SCHEDULE, env={"REPRO_TRACE_BUDGET": "0.5"})
    told = schedule_told(events)
    every = int(told["trace.every"])
    assert ({"trace.every", "trace.budget"}, "0.5", 0) == (set(told), told["trace.budget"], every & (every - 1))
    assert sorted(ALWAYS | set(range(0, 40, every))) == traced(events)
    replayed, _ = run_agent(SCHEDULE, entropy={"settings": {"main": {"trace.every": "5"}}})
    assert sorted(ALWAYS | set(range(0, 40, 5))) == traced(replayed)
    assert {"trace.every": "5"} == schedule_told(replayed)


@pytest.mark.parametrize(("every", "steps"), [("1", set(range(40))), ("0", set()), ("13", ALWAYS | {13, 26, 39})])
def test_a_schedule_can_be_fixed(run_agent, every, steps):
    events, _ = run_agent(SCHEDULE, env={"REPRO_TRACE_EVERY": every})
    assert sorted(steps) == traced(events)
    assert every == schedule_told(events)["trace.every"]
    assert [] == gaps(events)


BY_HAND = """
import torch
torch.manual_seed(0)
first, second = torch.nn.Linear(3, 2), torch.nn.Linear(2, 1)
scale = torch.ones(1, requires_grad=True)
for step in range(10):
    loss = (second(first(torch.ones(3))) * scale).sum()
    loss.backward()
    with torch.no_grad():
        for each in (*first.parameters(), *second.parameters(), scale):
            each -= 0.1 * each.grad
            each.grad = None
if __import__("sys").argv[1:]:
    optimizer = torch.optim.SGD([*first.parameters(), *second.parameters(), scale])
    for step in range(3): scale.sum().backward(); optimizer.step()
"""


@pytest.mark.parametrize("optimizer_after", [False, True])
def test_backward_passes_are_steps_where_no_optimizer_steps(run_agent, optimizer_after):
    events, _ = run_agent(BY_HAND, arguments=("o",) * optimizer_after, env={"REPRO_TRACE_EVERY": "1"})
    told = fields(events, "main", "backward")
    assert ["rng.torch", "rng.python", "weight", "gradient", "sketch"] == [
        field for step, field, _ in told if step == 0
    ]
    assert list(range(10)) == sorted({step for step, *_ in told})
    tensors = of_kind(events, "tensors")
    assert {"Linear[0].weight", "Linear[0].bias", "Linear[1].weight", "Linear[1].bias"} < set(tensors[0]["names"])
    assert 5 == len(tensors[0]["names"])
    assert len({tuple(found) for _, field, found in told if field == "weight"}) == 10
    assert optimizer_after == bool(fields(events, "main", "optimizer.0"))


ALONE = """
import torch
weight = torch.ones(3, requires_grad=True)
for _ in range(3): torch.autograd.grad((weight ** 2).sum(), [weight], create_graph=True)
"""


def test_gradients_without_any_step_are_a_gap(run_agent):
    events, _ = run_agent(ALONE)
    assert ["fingerprints"] == [subject for subject, _ in gaps(events)]


ODD = """
import torch
class Wrapper(torch.Tensor):
    @staticmethod
    def __new__(cls, data): return torch.Tensor._make_wrapper_subclass(cls, data.shape, dtype=data.dtype)
    @classmethod
    def __torch_dispatch__(cls, function, types, arguments=(), kwargs=None): raise NotImplementedError(str(function))
class Raises(torch.optim.Optimizer):
    def __init__(self, params): super().__init__(params, {})
    def step(self, closure=None): raise KeyError("theirs")
frozen, used = torch.nn.Parameter(torch.ones(2), requires_grad=False), torch.nn.Parameter(torch.ones(2))
odd = torch.ones(2); odd.requires_grad_()
optimizer = torch.optim.SGD([used, frozen, odd], lr=0.1)
used.sum().backward(); optimizer.step()
optimizer.param_groups[0]["params"].append(Wrapper(torch.ones(2)))
used.sum().backward(); optimizer.step()
try: Raises([used]).step()
except KeyError as error:
    trace, names = error.__traceback__, []
    while trace: names.append(trace.tb_frame.f_code.co_filename); trace = trace.tb_next
    print([name for name in names if "agent" in name])
"""


def test_what_cannot_be_read_is_dashes_and_a_gap(run_agent):
    events, finished = run_agent(ODD)
    assert (0, "", "[]\n") == (finished.returncode, finished.stderr, finished.stdout)
    by_place = {(step, field): told for step, field, told in fields(events, "main", "optimizer.0")}
    dashes = "-" * 16
    assert [False, True, True] == [word == dashes for word in by_place[0, "gradient"]]
    assert [False, False, False, True] == [word == dashes for word in by_place[1, "parameter"]]
    assert {"fingerprint", "sketch"} == {subject for subject, _ in gaps(events)}
    assert {"weight", "gradient", "hyperparameter"} <= {f for _, f, _ in fields(events, "main", "optimizer.1")}


LOADERS = """
import torch
from dataclasses import dataclass
from torch.utils.data import DataLoader, Dataset
class Texts(Dataset):
    def __len__(self): return 8
    def __getitem__(self, index): return {"text": "abcdefgh"[index], "x": torch.ones(2) * index}
weight = torch.nn.Parameter(torch.ones(2))
optimizer = torch.optim.SGD([weight], lr=0.1)
keys = DataLoader({key: torch.ones(2) for key in "abcd"}, 2, sampler=list("abcd"))
def step(x): (weight * x).sum().backward()
for batch in keys: step(batch)
optimizer.step()
keep = DataLoader(Texts(), 2, num_workers=1, persistent_workers=True, shuffle=True)
for epoch in range(2):
    for batch in keep: step(batch["x"]); optimizer.step()
"""


def test_batches_since_the_last_step_and_orders_of_every_loader_are_told(run_agent):
    events, finished = run_agent(LOADERS)
    assert (0, "") == (finished.returncode, finished.stderr)
    told = fields(events, "main")
    assert [2, *[2] * 8] == [len(found) for _, field, found in told if field == "batch"]
    orders = [found[0] for _, field, found in told if field == "order"]
    assert (9, 1 + 2 * 2) == (len(orders), len(set(orders)))  # a worker has two batches asked for ahead
    assert [] == gaps(events)
