"""The model that an anchor trains, as the agent tells it, and the field `buffer`."""

import hashlib
import json

import pytest
from event_logs import ROOT, of_kind

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

NET = """
import torch
nn = torch.nn
torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.frozen = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 4).requires_grad_(False)
        self.tied, self.again = nn.Linear(4, 4), nn.Linear(4, 4)
        self.again.weight = self.tied.weight
        self.late, self.never, self.beside = nn.LazyLinear(3), nn.LazyLinear(3), nn.Linear(2, 2)
        self.register_buffer("scale", torch.ones(4), persistent=False)
        self.register_buffer("nothing", None)
    def forward(self, x):
        x = self.norm(self.conv(x)).mean((2, 3))
        return self.late(self.again(self.tied(self.frozen(x))) * self.scale)
    def __getattribute__(self, name):
        if name.startswith("_secret"): raise RuntimeError("theirs")
        return super().__getattribute__(name)
    def __repr__(self): raise RuntimeError("theirs")
    __hash__ = nn.Module.__hash__
    def __eq__(self, other): raise RuntimeError("theirs")
net = Net()
net(torch.randn(2, 3, 8, 8))
optimizer = torch.optim.SGD([p for n, p in net.named_parameters() if not n.startswith("beside")], 0.1)
for step in range(12):
    optimizer.zero_grad(); net(torch.randn(2, 3, 8, 8)).sum().backward()
    if step == 3: net.scale = torch.full((4,), 2.0)
    if step == 5: net.frozen.requires_grad_(True)
    if step == 8: del net.norm; net.norm = nn.Identity()
    optimizer.step()
"""


def models(events, anchor="optimizer.0", key="main"):
    return [each for each in of_kind(events, "model", key) if each["anchor"] == anchor]


def rows(model):
    words = [model["words"][place : place + 16] for place in range(0, len(model["words"]), 16)]
    assert len(words) == len(model["names"]) == len(model["kinds"]) == len(model["shapes"]) == len(model["devices"])
    return {
        name: (kind, shape, word)
        for name, kind, shape, word in zip(*(model[k] for k in ("names", "kinds", "shapes")), words)
    }


def held(events, field, anchor="optimizer.0", key="main"):
    told = [each for each in of_kind(events, "trace", key) if (each["field"], each["anchor"]) == (field, anchor)]
    return {e["step"]: [e["words"][at : at + 16] for at in range(0, len(e["words"]), 16)] for e in told}


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    from conftest import _run_agent

    events, finished = _run_agent(tmp_path_factory.mktemp("net"), NET, env={"REPRO_TRACE_EVERY": "1"})
    assert (0, "") == (finished.returncode, finished.stderr)
    return events


def test_a_model_is_told_with_its_modules_and_tensors(net):
    first, _ = models(net)
    assert 0 == first["step"]
    assert ["", "__main__.Net"] == first["modules"][0]
    assert ["", "conv", "norm", "frozen", "tied", "again", "late", "never", "beside"] == [
        p for p, _ in first["modules"]
    ]
    found = rows(first)
    assert ("buffer", [4]) == found["scale"][:2] == found["norm.running_mean"][:2]
    assert ("buffer", []) == found["norm.num_batches_tracked"][:2]
    assert ("frozen", [4, 4]) == found["frozen.weight"][:2]
    assert ("untrained", [2, 2]) == found["beside.weight"][:2]
    assert ("parameter", [4, 3, 3, 3]) == found["conv.weight"][:2]
    assert ("parameter", [3, 2]) == found["late.weight"][:2] or ("parameter", [3, 4]) == found["late.weight"][:2]
    assert ("parameter", []) == found["never.weight"][:2], "it has no shape yet"
    assert "again.weight" not in found, "a tied weight comes once"
    assert "nothing" not in found


def test_what_is_told_of_parameters_is_what_the_trace_says_of_them(net):
    (tensors,) = of_kind(net, "tensors")
    found = rows(models(net)[0])
    weights = dict(zip(tensors["names"], held(net, "weight")[0]))
    assert {name: found[name][2] for name in weights} == weights


def test_buffers_and_frozen_weights_are_told_at_each_step_in_the_models_order(net):
    first, second = models(net)
    besides = [name for name, (kind, _, _) in rows(first).items() if kind != "parameter"]
    assert ["scale", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked"] == besides[:4]
    told = held(net, "buffer")
    assert list(range(12)) == sorted(told)
    by_name = [dict(zip(besides, told[step])) for step in range(5)]
    for name in ("norm.running_mean", "norm.running_var", "norm.num_batches_tracked"):
        assert 5 == len({step[name] for step in by_name})
    for name in ("frozen.weight", "frozen.bias", "beside.weight", "beside.bias"):
        assert 1 == len({step[name] for step in by_name})
    assert [0, 0, 0, 1, 1] == [int(step["scale"] != by_name[0]["scale"]) for step in by_name]
    assert [rows(first)[name][2] for name in besides] == told[0]
    assert 5 == second["step"], "other parameters take a gradient from then on"
    assert "parameter" == rows(second)["frozen.weight"][0]


def test_a_buffer_that_is_gone_is_dashes(net):
    _, second = models(net)
    besides = [name for name, (kind, _, _) in rows(second).items() if kind != "parameter"]
    before, after = (dict(zip(besides, held(net, "buffer")[step])) for step in (7, 8))
    gone = {name for name in besides if after[name] == "-" * 16}
    assert {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"} == gone
    assert all(before[name] != "-" * 16 for name in gone)


def test_a_model_event_is_as_the_schema_says_and_the_steps_are_counted(net):
    import jsonschema

    validator = jsonschema.Draft202012Validator(json.loads((ROOT / "schemas/event-1.json").read_text()))
    told = [{k: v for k, v in each.items() if k != "process_key"} for each in models(net)]
    assert [] == [error.message for each in told for error in validator.iter_errors(each)]
    at_end = {each["name"]: each["value"] for each in of_kind(net, "setting") if each["moment"] == "end"}
    assert "12" == at_end["trace.steps.optimizer.0"]


ODD = """
import copy, torch
nn = torch.nn
torch.manual_seed(0)
def fit(forward, parameters, steps=2):
    optimizer = torch.optim.SGD(list(parameters), 0.1)
    for _ in range(steps): forward().sum().backward(); optimizer.step()
    return optimizer
script = torch.jit.script(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
kept = [fit(lambda: script(torch.randn(4, 2)), script.parameters())]
several = [nn.Linear(1, 1), nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1)), nn.Linear(1, 1)]
kept += [fit(lambda: sum(m(torch.ones(2, 1)) for m in several), [p for m in several for p in m.parameters()])]
inside = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
compiled = torch.compile(inside, backend="eager")
kept += [fit(lambda: compiled(torch.randn(4, 2)), inside.parameters())]
alone = nn.Parameter(torch.ones(3))
kept += [fit(lambda: alone * 2, [alone])]
deep = nn.Sequential(*[nn.Linear(2, 2) for _ in range(1000)])
kept += [fit(lambda: deep(torch.randn(4, 2)), deep.parameters())]
both = nn.ModuleDict({"made": nn.Linear(2, 2), "critic": nn.Linear(2, 1)})
kept += [fit(lambda: both["made"](torch.ones(1, 2)), both["made"].parameters())]
kept += [fit(lambda: both["critic"](torch.ones(1, 2)), both["critic"].parameters())]
gone = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)); weak = __import__("weakref").ref(gone)
last = fit(lambda: gone(torch.randn(4, 2)), gone.parameters())
del gone; __import__("gc").collect()
print(weak() is None)
last.step()
"""


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    from conftest import _run_agent

    events, finished = _run_agent(tmp_path_factory.mktemp("odd"), ODD, env={"REPRO_TRACE_EVERY": "1"})
    assert (0, "") == (finished.returncode, finished.stderr)
    return events, finished.stdout


def test_scripted_compiled_listed_and_bare_parameters(odd):
    events, _ = odd
    (script,) = models(events, "optimizer.0")
    assert ["torch.jit._script.RecursiveScriptModule(Sequential)", "(Linear)"] == [
        script["modules"][0][1],
        script["modules"][1][1][-8:],
    ]
    assert ["1.running_mean", "1.running_var", "1.num_batches_tracked"] == script["names"][-3:]
    assert len(set(map(tuple, held(events, "buffer", "optimizer.0").values()))) == 2
    listed = [[name for _, name in each["modules"]] for each in models(events, "optimizer.1")]
    assert ["torch.nn.modules.linear.Linear"] * 2 == [names[0] for names in listed if len(names) == 1]
    assert ["torch.nn.modules.container.Sequential"] == [names[0] for names in listed if len(names) == 3]
    assert [3, 3] == [len(words) for words in held(events, "buffer", "optimizer.1").values()]
    (compiled,) = models(events, "optimizer.2")
    assert ["torch._dynamo.eval_frame.OptimizedModule", "_orig_mod"] == [
        compiled["modules"][0][1],
        compiled["modules"][1][0],
    ]
    assert [] == models(events, "optimizer.3")
    (deep,) = models(events, "optimizer.4")
    assert (1001, 2000) == (len(deep["modules"]), len(deep["names"]))
    assert [] == [(gap["subject"], gap["reason"]) for gap in of_kind(events, "gap")]


def test_what_another_optimizer_trains_in_the_same_model_is_told_too(odd):
    events, _ = odd
    (model,) = models(events, "optimizer.5")
    assert ["parameter", "parameter", "untrained", "untrained"] == model["kinds"]
    assert ["made.weight", "made.bias", "critic.weight", "critic.bias"] == model["names"]
    assert [2, 2] == [len(words) for words in held(events, "buffer", "optimizer.5").values()]


def test_a_model_that_is_let_go_is_not_held(odd):
    events, printed = odd
    assert "True\n" == printed
    assert ["-" * 16] * 3 == held(events, "buffer", "optimizer.7")[2]


FAULTS = """
import os, random, sys, torch
nn = torch.nn
def train(change):
    torch.manual_seed(1); random.seed(1)
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 4).requires_grad_(False), nn.Linear(4, 1))
    x = torch.randn(20, 16, 8)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad])
    for step in range(20):
        if step == 11 and change == "mean": model[1].running_mean.view(torch.int32)[3] ^= 64
        if step == 11 and change == "count": model[1].num_batches_tracked += 1
        if step == 11 and change == "frozen": model[2].weight.data.view(torch.int32)[1, 2] ^= 1
        optimizer.zero_grad(); model(x[step]).square().mean().backward(); optimizer.step()
torch.set_num_threads(1)
train("none")
for change in sys.argv[1:]:
    child = os.fork()
    if not child: train(change); sys.exit()
    assert os.waitpid(child, 0)[1] == 0
"""
CHANGES = {"mean": ["1.running_mean"], "count": ["1.num_batches_tracked"], "frozen": ["2.weight"]}


def test_one_bit_in_a_running_mean_or_a_frozen_weight_shows_at_its_step(run_agent):
    events, finished = run_agent(FAULTS, arguments=tuple(CHANGES), env={"REPRO_TRACE_EVERY": "1"})
    assert (0, "") == (finished.returncode, finished.stderr)
    recorded = [(e["step"], e["field"], e["words"]) for e in of_kind(events, "trace", "main")]
    names = [name for name, (kind, _, _) in rows(models(events)[0]).items() if kind != "parameter"]
    for number, (change, expected) in enumerate(CHANGES.items(), 1):
        key = f"main/fork.{number}"
        replayed = [(e["step"], e["field"], e["words"]) for e in of_kind(events, "trace", key)]
        step, field, _ = next(a for a, b in zip(recorded, replayed) if a != b)
        ours, theirs = held(events, "buffer")[step], held(events, "buffer", key=key)[step]
        differing = [name for name, a, b in zip(names, ours, theirs) if a != b]
        assert (11, "buffer", expected) == (step, field, differing), change
        assert models(events)[0]["words"] == models(events, key=key)[0]["words"]


FROZEN = """
import gc, torch
model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
gc.freeze()
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for _ in range(3): model(torch.randn(4, 2)).sum().backward(); optimizer.step()
"""


def test_modules_hidden_from_the_collector_are_a_gap(run_agent):
    events, finished = run_agent(FROZEN)
    assert (0, "") == (finished.returncode, finished.stderr)
    assert [] == models(events)
    (reason,) = [gap["reason"] for gap in of_kind(events, "gap") if gap["subject"] == "parameter names"]
    assert "gc.freeze" in reason


def test_the_digest_of_a_model_is_over_its_structure_and_values(net, tmp_path):
    from repro.record.eventlog import read

    (tmp_path / "1-1.jsonl").write_text(
        "".join(json.dumps(e) + "\n" for e in [of_kind(net, "start")[0], models(net)[0]])
    )
    found = read(tmp_path)
    (model,) = found.models
    lines = [f"module {row.path} {row.class_name}" for row in found.model_modules]
    lines += [f"tensor {t.name} {t.kind} {t.dtype} {t.shape} {t.word}" for t in found.model_tensors]
    content = "".join(f"{line}\n" for line in lines)
    assert f"sha256:{hashlib.sha256(content.encode()).hexdigest()}" == model.digest
