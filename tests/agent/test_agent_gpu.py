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


def test_the_agent_does_not_start_cuda(run_agent):
    script = (
        "import torch\n(torch.ones(1, requires_grad=True) * 2).sum().backward()\nprint(torch.cuda.is_initialized())"
    )
    assert run_agent(script)[1].stdout == "False\n"
