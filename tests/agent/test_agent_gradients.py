"""Loops that ask for gradients and write their weights themselves: each call of `torch.autograd.grad` is a step."""

import pytest
from event_logs import of_kind

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

BY_HAND = """
import sys, torch
torch.manual_seed(1)
model = torch.nn.Linear(3, 2)
weights = dict(model.named_parameters())
asked = weights if "dict" in sys.argv else list(weights.values())
for step in range(12):
    if "flip" in sys.argv and step == 5: model.weight.data.view(torch.int32)[1, 2] ^= 1
    loss = model(torch.ones(4, 3)).square().mean()
    gradients = torch.autograd.grad(loss, asked)
    found = gradients.values() if "dict" in sys.argv else gradients
    with torch.no_grad():
        for weight, gradient in zip(weights.values(), found): weight -= 0.1 * gradient
    print(loss.item().hex())
print(torch.rand(1).item().hex(), len(gradients))
"""

BOTH = """
import torch
weight = torch.ones(3, requires_grad=True)
optimizer = None
def ask(**options):
    image = torch.ones(3, requires_grad=True)
    return torch.autograd.grad((weight * image).sum(), image, **options)
OPTIMIZER
for step in range(3):
    ask(), ask(create_graph=True)
    (weight * 2).sum().backward()
    if optimizer is not None: optimizer.step()
"""

NO_STEPS = """
import torch
weight = torch.ones(3, requires_grad=True)
for _ in range(3):
    loss = (weight ** 2).sum()
    torch.autograd.grad(loss, weight, create_graph=True)
    torch.autograd.grad(weight ** 2, weight, torch.ones(3))
    torch.autograd.grad(weight ** 2, [weight], torch.ones(2, 3), is_grads_batched=True)
    inside = weight * 2
    torch.autograd.grad(inside.sum(), inside)
try: torch.autograd.grad(torch.ones(2), weight)
except RuntimeError as error:
    trace, names = error.__traceback__, []
    while trace: names.append(trace.tb_frame.f_code.co_filename); trace = trace.tb_next
    print([name for name in names if "agent" in name])
"""


def words(events):
    """Return what each traced step of `backward` says: step and field to fingerprints; `random` is seeded by chance."""
    told = [event for event in of_kind(events, "trace") if event["anchor"] == "backward"]
    return {(event["step"], event["field"]): event["words"] for event in told if event["field"] != "rng.python"}


def losses(events):
    return [event["value"] for event in of_kind(events, "metric") if event["name"] == "loss"]


def test_gradients_asked_for_are_steps_and_change_no_bit(run_agent):
    events, finished = run_agent(BY_HAND)
    _, bare = run_agent(BY_HAND, agent=False)
    assert (bare.stdout, bare.stderr) == (finished.stdout, finished.stderr)
    found = words(events)
    assert [0, 1, 2, 3, 4, 5, 6, 7, 8] == sorted({step for step, _ in found})
    assert {"rng.torch", "weight", "gradient", "sketch"} <= {field for step, field in found if step == 3}
    assert 9 == len({found[step, "weight"] for step in range(9)}) == len({found[step, "gradient"] for step in range(9)})
    (tensors,) = of_kind(events, "tensors")
    assert (["weight", "bias"], [[2, 3], [2]]) == (tensors["names"], tensors["shapes"])
    assert [float.fromhex(line) for line in finished.stdout.split()[:12]] == [float.fromhex(v) for v in losses(events)]
    assert ["learning_rate"] == [gap["subject"] for gap in of_kind(events, "gap")]


def test_a_changed_bit_shows_in_the_weights_of_its_step(run_agent):
    events, _ = run_agent(BY_HAND)
    changed, _ = run_agent(BY_HAND, arguments=("flip",))
    left, right = words(events), words(changed)
    differing = sorted({step for step, field in left if left[step, field] != right[step, field]})
    assert 5 == differing[0]
    assert left[5, "weight"] != right[5, "weight"]


def test_gradients_asked_for_by_name(run_agent):
    bare = run_agent(BY_HAND, arguments=("dict",), agent=False)[1]
    if bare.returncode:
        pytest.skip("this PyTorch takes no dictionary")
    events, finished = run_agent(BY_HAND, arguments=("dict",))
    assert (bare.stdout, 0) == (finished.stdout, finished.returncode)
    assert words(events) == words(run_agent(BY_HAND)[0])


@pytest.mark.parametrize("optimizer", ["", "optimizer = torch.optim.SGD([weight], lr=0.1)"])
def test_penalties_and_attacks_are_no_steps_of_a_loop_that_steps(run_agent, optimizer):
    events, finished = run_agent(BOTH.replace("OPTIMIZER", optimizer))
    assert (0, "") == (finished.returncode, finished.stderr)
    found = words(events)
    anchors = {event["anchor"] for event in of_kind(events, "trace")}
    assert ({"optimizer.0"} if optimizer else {"backward"}) == anchors
    # without an optimizer, nobody can tell before the first backward pass that the first call was an attack
    assert ([] if optimizer else [0, 1, 2, 3]) == sorted({step for step, _ in found})
    assert (3 if optimizer else 4) == len(losses(events))


def test_calls_that_are_no_steps_are_a_gap_and_raise_what_they_raise(run_agent):
    events, finished = run_agent(NO_STEPS)
    assert (0, "", "[]\n") == (finished.returncode, finished.stderr, finished.stdout)
    assert ({}, []) == (words(events), losses(events))
    assert ["fingerprints"] == [gap["subject"] for gap in of_kind(events, "gap")]
