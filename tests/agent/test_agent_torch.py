"""PyTorch under the agent: the same bits as without it, and everything that decides them is told."""

import json
import sys

import pytest
from event_logs import ROOT, entropy_document, of_kind

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

TRAIN = """
import hashlib, os, random, sys
import numpy, torch
from torch.utils.data import DataLoader, Dataset

class Noisy(Dataset):
    def __len__(self): return 48
    def __getitem__(self, index):
        return torch.randn(8) + random.random() + numpy.random.rand(), torch.tensor([index / 48])

def main(seed, method):
    if seed: torch.manual_seed(seed); numpy.random.seed(seed); random.seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.GELU(), torch.nn.Dropout(0.2), torch.nn.Linear(64, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, betas=(0.8, 0.9))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 5, 0.5)
    loader = DataLoader(Noisy(), batch_size=8, shuffle=True, num_workers=2, multiprocessing_context=method)
    for epoch in range(2 if method == 'fork' else 1):
        for x, y in loader:
            optimizer.zero_grad()
            loss = ((model(x) - y) ** 2).mean()
            loss.backward()
            optimizer.step(); scheduler.step()
            print(loss.item().hex(), scheduler.get_last_lr()[0].hex())
    weights = b''.join(parameter.detach().numpy().tobytes() for parameter in model.parameters())
    print(hashlib.sha256(weights).hexdigest(), torch.initial_seed() == seed, random.random(),
        numpy.random.rand(), torch.rand(1).item())
    torch.save(model.state_dict(), 'model.pt'); torch.load('model.pt')

if __name__ == '__main__':
    main(int(sys.argv[1]), sys.argv[2])
"""


@pytest.fixture(scope="module")
def seeded(tmp_path_factory):
    """One seeded training, with the agent and without it."""
    from conftest import _run_agent

    folder = tmp_path_factory.mktemp("seeded")
    events, watched = _run_agent(folder, TRAIN, arguments=("3", "fork"))
    _, bare = _run_agent(folder, TRAIN, arguments=("3", "fork"), agent=False)
    return events, watched, bare, folder


def test_training_is_the_same_bit_for_bit(seeded):
    _, watched, bare, _ = seeded
    assert (0, bare.stderr) == (watched.returncode, watched.stderr)
    assert bare.stdout == watched.stdout
    assert 13 == len(bare.stdout.splitlines())


def test_losses_and_rates_are_what_the_script_printed(seeded):
    events, watched, _, _ = seeded
    printed = [line.split() for line in watched.stdout.splitlines()[:-1]]
    losses = [event for event in of_kind(events, "metric", "main") if event["name"] == "loss"]
    assert [loss for loss, _ in printed] == [event["value"] for event in losses]
    assert list(range(12)) == [event["step"] for event in losses]
    assert {"float32"} == {event["dtype"] for event in losses}
    rates = {
        event["step"]: event["value"]
        for event in of_kind(events, "metric", "main")
        if event["name"] == "learning_rate.0"
    }
    assert {0: (0.01).hex(), 5: (0.005).hex(), 10: (0.0025).hex()} == rates
    assert sorted(event["at"] for event in losses) == [event["at"] for event in losses]


def test_events_of_torch_are_as_the_schema_says(seeded):
    import jsonschema

    *_, folder = seeded
    validator = jsonschema.Draft202012Validator(json.loads((ROOT / "schemas/event-1.json").read_text()))
    lines = [
        json.loads(line)
        for path in (folder / "events.0").glob("*.jsonl")
        for line in path.read_bytes().rstrip(b"\0").splitlines()
    ]
    assert [] == [error.message for line in lines for error in validator.iter_errors(line)]


def test_settings_generators_seeds_and_files_are_told(seeded):
    events, _, _, folder = seeded
    import torch

    settings = {(event["moment"], event["name"]): event["value"] for event in of_kind(events, "setting", "main")}
    for moment in ("import", "first-step", "end"):
        assert torch.__version__ == settings[moment, "torch.version"]
        assert "False" == settings[moment, "torch.deterministic_algorithms"]
        assert "torch.float32" == settings[moment, "torch.default_dtype"]
        assert settings[moment, "torch.num_threads"].isdigit()
    assert "torch.optim.adamw.AdamW" == settings["first-step", "optimizer.0.class"]
    assert "(0.8, 0.9)" == settings["first-step", "optimizer.0.group.0.betas"]
    assert ("first-step", "optimizer.0.group.0.params") not in settings
    digests = {(event["moment"], event["generator"]): event["sha256"] for event in of_kind(events, "generator", "main")}
    assert {
        (m, g) for m in ("import", "first-step", "end") for g in ("random.global", "numpy.global", "torch.cpu")
    } == set(digests)
    assert 3 == len({digests[moment, "torch.cpu"] for moment in ("import", "first-step", "end")})
    seeds = {event["function"]: event["argument"] for event in of_kind(events, "seed", "main")}
    assert {"torch.manual_seed": "3", "numpy.random.seed": "3", "random.seed": "3"} == seeds
    files = [(event["path"], event["mode"]) for event in of_kind(events, "open", "main") if event["library"] == "torch"]
    assert [(f"{folder}/model.pt", "write"), (f"{folder}/model.pt", "read")] == files
    assert {"numpy", "torch"} <= {event["name"] for event in of_kind(events, "library", "main")}
    assert [] == of_kind(events, "gap")


def test_workers_have_logs_of_their_own(seeded):
    events, *_ = seeded
    workers = {f"main/fork.{number}" for number in range(1, 5)}
    assert {"main"} | workers == {event["process_key"] for event in of_kind(events, "start")}
    assert {"main"} | workers == {event["process_key"] for event in of_kind(events, "end")}
    assert {event["function"] for event in of_kind(events, "seed", "main/fork.2")} >= {
        "torch.manual_seed",
        "random.seed",
        "numpy.random.seed",
    }
    assert [] == of_kind(events, "metric", "main/fork.2")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_an_unseeded_training_repeats_itself(run_agent, method):
    recorded, first = run_agent(TRAIN, arguments=("0", method))
    replayed, second = run_agent(TRAIN, arguments=("0", method), entropy=entropy_document(recorded))
    assert (0, 0, first.stderr) == (first.returncode, second.returncode, second.stderr)
    assert first.stdout == second.stdout
    assert of_kind(recorded, "gap") == of_kind(replayed, "gap") == []
    assert "True" in {
        str(event["substituted"]) for event in of_kind(replayed, "entropy") if event["stream"] == "torch.initial_seed"
    }


SHAPES = """
import io, os, pickle, warnings
import torch
from torch.optim.optimizer import Optimizer

class Fails(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x): return x * 2
    @staticmethod
    def backward(ctx, grad): raise KeyError('theirs')

weight = torch.nn.Parameter(torch.ones(3))
try: Fails.apply(weight).sum().backward()
except KeyError as error:
    trace, files = error.__traceback__, []
    while trace: files.append(trace.tb_frame.f_code.co_filename); trace = trace.tb_next
    print([name for name in files if 'repro' in name])
(weight * 2).sum().to(torch.bfloat16).backward()
(weight * 3).sum().double().backward()
(weight * 2).backward(torch.ones(3))
torch.autograd.backward([(weight ** 2).sum()])
torch.autograd.backward([(weight ** 2).sum(), (weight * 2).sum()])
torch.autograd.backward(tensors=(weight.sum() * float('nan')))
class Odd(torch.Tensor): pass
weight.sum().as_subclass(Odd).backward()
a = torch.optim.SGD([{'params': [weight], 'lr': 0.5}, {'params': [torch.nn.Parameter(torch.ones(1))]}], lr=0.1)
b = torch.optim.Adam([torch.nn.Parameter(torch.ones(1))], lr=torch.tensor(0.25))
for _ in range(2): a.step(); b.step()
class Other:
    param_groups = []
b.param_groups[0]['lr'] = torch.tensor(0.25, device='meta'); b.param_groups[0]['params'] = []
try: b.step()
except Exception as error: print(type(error).__name__)
print(torch.manual_seed(7).initial_seed(), torch.manual_seed(seed=8).initial_seed(),
    torch.seed() == torch.initial_seed())
for wrong in ('x', None):
    try: torch.manual_seed(wrong)
    except Exception as error: print(type(error).__name__, error)
try: torch.manual_seed()
except TypeError as error: print('manual_seed' in str(error))
for function in (torch.save, torch.load, torch.autograd.backward, torch.random.manual_seed, torch.random.seed):
    print(pickle.loads(pickle.dumps(function)) is function, function.__module__, function.__doc__[:10])
torch.save(weight, 'w.pt')
torch.save(weight, f=io.BytesIO())
torch.jit.save(torch.jit.script(torch.nn.Linear(2, 1)), 'scripted.pt')
torch.jit.load('scripted.pt')
compiled = torch.compile(lambda x: ((x * weight) ** 2).sum(), backend='eager', fullgraph=True)
compiled(torch.ones(3)).backward()
"""


def test_losses_of_every_shape(run_agent, tmp_path):
    events, watched = run_agent(SHAPES, env={"PYTHONWARNINGS": "ignore"})
    _, bare = run_agent(SHAPES, agent=False, env={"PYTHONWARNINGS": "ignore"})
    assert (bare.returncode, bare.stderr) == (watched.returncode, watched.stderr)
    assert bare.stdout == watched.stdout
    assert watched.stdout.startswith("[]\n")
    losses = [
        (event["step"], event["value"], event["dtype"])
        for event in of_kind(events, "metric")
        if event["name"] == "loss"
    ]
    assert [
        (0, (6.0).hex(), "float32"),
        (1, (6.0).hex(), "bfloat16"),
        (2, (9.0).hex(), "float64"),
        (3, (3.0).hex(), "float32"),
        (4, "nan", "float32"),
        (5, losses[-1][1], "float32"),
    ] == losses
    rates = {
        (event["name"], event["step"]): float.fromhex(event["value"])
        for event in of_kind(events, "metric")
        if "rate" in event["name"]
    }
    assert {("learning_rate.0", 0): 0.5, ("learning_rate.1", 0): 0.1, ("optimizer.1.learning_rate.0", 0): 0.25} == rates
    files = [
        (event["path"].rpartition("/")[2], event["mode"])
        for event in of_kind(events, "open")
        if event["library"] == "torch"
    ]
    assert [("w.pt", "write"), ("scripted.pt", "write"), ("scripted.pt", "read")] == files
    assert {
        ("trace", "loss"),
        ("trace", "fingerprint"),
        ("trace", "optimizer.1.learning_rate.0"),
        ("randomness", "torch.manual_seed"),
    } == {(gap["topic"], gap["subject"]) for gap in of_kind(events, "gap")}


SETTINGS = """
import os, torch
os.environ['MKL_CBWR'] = 'AUTO'
print(torch.get_num_threads(), torch.get_num_interop_threads(), torch.seed(), torch.rand(1).item(),
    torch.initial_seed())
torch.backends.cuda.matmul.fp32_precision = 'tf32'
torch.use_deterministic_algorithms(True, warn_only=True)
weight = torch.nn.Parameter(torch.ones(1))
for _ in range(3): weight.sum().backward(); weight.data -= weight.grad
"""


def test_threads_and_seeds_are_restored_and_settings_that_conflict_are_said(run_agent):
    recorded, first = run_agent(SETTINGS, env={"OMP_NUM_THREADS": "1"})
    document = entropy_document(recorded)
    document["settings"]["main"]["torch.num_interop_threads"] = "3"
    _, second = run_agent(SETTINGS, env={"OMP_NUM_THREADS": "2"}, entropy=document)
    assert first.stdout.split()[0] == second.stdout.split()[0] == "1"
    assert "3" == second.stdout.split()[1]
    assert first.stdout.split()[2:] == second.stdout.split()[2:]
    settings = {(event["moment"], event["name"]): event["value"] for event in of_kind(recorded, "setting")}
    assert "True" == settings["first-step", "torch.deterministic_algorithms_warn_only"]
    assert settings["end", "torch.backends.cuda.matmul.allow_tf32"].startswith(("unreadable", "True"))
    assert first.stderr == second.stderr == ""
    assert ["MKL_CBWR", "learning_rate"] == [gap["subject"] for gap in of_kind(recorded, "gap")]


DEVICE = """
import gc, torch
training = next(o for o in gc.get_objects() if type(o).__name__ == 'Training')
class OnDevice:
    is_cpu, is_cuda, dtype = False, False, torch.float16
    def __init__(self, value): self.value = torch.tensor(value, dtype=torch.float16)
    def numel(self): return 1
    def detach(self): return self.value
training._plain += (OnDevice,)
for step in range(100): training._before_backward((OnDevice(step / 8),), {})
print(len(training._on_device))
"""


def test_losses_on_a_device_wait_together(run_agent):
    """A stand-in for a device: that nothing waits for a real one needs one."""
    events, finished = run_agent(DEVICE)
    assert ("36\n", "") == (finished.stdout, finished.stderr)
    losses = of_kind(events, "metric")
    assert [(step, step / 8, "float16") for step in range(100)] == [
        (event["step"], float.fromhex(event["value"]), event["dtype"]) for event in losses
    ]


def test_a_torch_that_is_not_torch_is_a_gap(run_agent, tmp_path):
    (tmp_path / "torch.py").write_text("__version__ = '0'\n")
    events, finished = run_agent("import torch; print(torch.__version__)", python=sys.executable)
    assert ("0\n", "") == (finished.stdout, finished.stderr)
    assert {"agent"} == {gap["topic"] for gap in of_kind(events, "gap")}
