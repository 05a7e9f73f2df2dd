"""On a CUDA device: every loss is told exactly, and the agent neither starts CUDA nor changes a bit."""

import pytest
from event_logs import of_kind

pytestmark = [pytest.mark.gpu, pytest.mark.torch]

TRAIN = """
import torch
torch.manual_seed(0)
model = torch.nn.Linear(8, 1).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
losses = []
for step in range(150):
    loss = ((model(torch.randn(16, 8, device="cuda")) - 1) ** 2).mean()
    optimizer.zero_grad(); loss.backward(); optimizer.step()
    losses.append(loss.detach())
print(*[value.hex() for value in torch.stack(losses).cpu().double().tolist()], sep="\\n")
"""


def test_every_loss_of_the_device_is_told_exactly(run_agent):
    events, done = run_agent(TRAIN)
    assert done.returncode == 0, done.stderr
    losses = [event for event in of_kind(events, "metric") if event["name"] == "loss"]
    assert list(range(150)) == [event["step"] for event in losses]
    assert done.stdout.split() == [event["value"] for event in losses]


def test_the_bits_are_those_without_the_agent(run_agent):
    assert run_agent(TRAIN)[1].stdout == run_agent(TRAIN, agent=False)[1].stdout


def test_every_tensor_of_the_device_is_fingerprinted_as_on_the_processor(run_agent):
    script = """
import torch
torch.manual_seed(0)
weight = torch.nn.Parameter(torch.randn(70001))
moved = torch.nn.Parameter(weight.detach().cuda())
for each in (weight, moved):
    optimizer = torch.optim.SGD([each], lr=0.5)
    for step in range(20):
        each.grad = torch.full_like(each, 0.25)
        optimizer.step()
"""
    events, done = run_agent(script, env={"REPRO_TRACE_EVERY": "1"})
    assert (0, "") == (done.returncode, done.stderr)
    told = {(e["anchor"], e["step"], e["field"]): e["words"] for e in of_kind(events, "trace")}
    for step in range(20):
        for field in ("gradient", "parameter"):
            assert told["optimizer.0", step, field] == told["optimizer.1", step, field]
    fields = [event["field"] for event in of_kind(events, "trace") if event["step"] == 3][-8:]
    assert ["gradient", "hyperparameter", "parameter", "sketch"] == [
        f for f in fields if "rng" not in f and f != "weight"
    ][-4:]
    assert "rng.cuda.0" in {event["field"] for event in of_kind(events, "trace")}
    assert [] == of_kind(events, "gap")


def test_tracing_waits_for_no_step(run_agent):
    script = """
import torch
torch.manual_seed(0)
model = torch.nn.Linear(512, 512).cuda()
optimizer = torch.optim.AdamW(model.parameters(), capturable=True)
for step in range(12):
    if step == 11: torch.cuda.set_sync_debug_mode("error")
    loss = model(torch.ones(8, 512, device="cuda")).square().mean()
    loss.backward(); optimizer.step()
torch.cuda.set_sync_debug_mode("default")
"""
    events, done = run_agent(script, env={"REPRO_TRACE_EVERY": "1"})
    assert (0, "") == (done.returncode, done.stderr)
    assert [] == of_kind(events, "gap")
    assert list(range(12)) == sorted({event["step"] for event in of_kind(events, "trace")})


def test_a_step_inside_a_graph_is_a_gap(run_agent):
    script = """
import torch
model = torch.nn.Linear(8, 1).cuda()
optimizer = torch.optim.Adam(model.parameters(), capturable=True)
data = torch.randn(4, 8, device="cuda")
def step():
    optimizer.zero_grad(set_to_none=False); model(data).square().mean().backward(); optimizer.step()
side = torch.cuda.Stream()
with torch.cuda.stream(side):
    for _ in range(3): step()
torch.cuda.current_stream().wait_stream(side)
graph = torch.cuda.CUDAGraph()
with torch.cuda.graph(graph): step()
graph.replay(); torch.cuda.synchronize()
"""
    events, done = run_agent(script)
    assert (0, "") == (done.returncode, done.stderr)
    assert "optimizer.0" in {gap["subject"] for gap in of_kind(events, "gap")}


def test_the_agent_does_not_start_cuda(run_agent):
    script = (
        "import torch\n(torch.ones(1, requires_grad=True) * 2).sum().backward()\nprint(torch.cuda.is_initialized())"
    )
    assert run_agent(script)[1].stdout == "False\n"
