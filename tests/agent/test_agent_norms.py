"""What is told in numbers at traced steps: the gradient's norm, and settings of an optimizer that change."""

import math

import pytest
from event_logs import of_kind

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

TRAINING = """
import sys, torch
torch.manual_seed(0)
first = torch.nn.Linear(4, 3)
second = torch.nn.Linear(3, 2).double()
one = torch.optim.SGD([{"params": first.parameters()}, {"params": second.parameters()}], lr=0.1, momentum=0.9)
two = torch.optim.Adam([torch.nn.Parameter(torch.ones(3))])
for step in range(10):
    one.zero_grad()
    second(first(torch.ones(5, 4)).double()).sum().backward()
    if step == 3: one.param_groups[1]["momentum"] = 0.5
    if step == 5: two.param_groups[0]["betas"] = (0.8, 0.999)
    if step == 6: torch.nn.utils.clip_grad_norm_([*first.parameters(), *second.parameters()], 0.25)
    two.param_groups[0]["params"][0].grad = torch.full((3,), 2.0)
    norm = sum((p.grad.double() ** 2).sum() for m in (first, second) for p in m.parameters()) ** 0.5
    print(repr(float(norm)))
    one.step(), two.step()
"""


def numbers(events, name):
    return {event["step"]: float.fromhex(event["value"]) for event in events if event["name"] == name}


def test_the_norm_of_the_gradient_and_changed_settings_are_told(run_agent):
    events, done = run_agent(TRAINING, env={"REPRO_TRACE_EVERY": "1"})
    metrics = of_kind(events, "metric")
    expected = [float(line) for line in done.stdout.split()]
    told = numbers(metrics, "gradient_norm")
    assert list(told) == list(range(10))
    assert list(told.values()) == pytest.approx(expected, rel=1e-6)
    assert told[6] == pytest.approx(0.25, rel=1e-5)
    assert numbers(metrics, "optimizer.1.gradient_norm") == dict.fromkeys(range(10), pytest.approx(math.sqrt(12)))
    assert numbers(metrics, "optimizer.0.group.1.momentum") == {3: 0.5}
    assert numbers(metrics, "optimizer.1.group.0.betas.0") == {5: 0.8}
    assert not [event["name"] for event in metrics if ".group.0.momentum" in event["name"]]


@pytest.mark.parametrize(
    "gradient", ["torch.eye(3).to_sparse()", "None", "torch.full((3, 3), float('nan'))", "torch.ones(3, 3, dtype=dt)"]
)
def test_a_gradient_that_has_no_norm_is_no_harm(run_agent, gradient):
    script = f"""
import torch
dt = torch.complex64
weight = torch.nn.Parameter(torch.ones(3, 3, dtype=dt if "dtype" in {gradient!r} else None))
optimizer = torch.optim.SGD([weight], lr=0.1)
for _ in range(3):
    weight.grad = {gradient}
    optimizer.step()
"""
    events, _ = run_agent(script)
    told = numbers(of_kind(events, "metric"), "gradient_norm")
    if "nan" in gradient:
        assert len(told) == 3
        assert all(map(math.isnan, told.values()))
    elif "dtype" in gradient:
        assert told == dict.fromkeys(range(3), 3.0)
    else:
        assert told == {}
    assert [] == of_kind(events, "gap")
