"""Generators of PyTorch's made by the user, and those of devices: seeds and entropy are told, and put back."""

import pytest
from event_logs import entropy_document, of_kind

pytestmark = pytest.mark.torch

OWN = """
import time, torch
own = torch.Generator(); print(own.initial_seed())
print(own.manual_seed(time.time_ns() % 2**40) is own, torch.rand(2, generator=own))
own.manual_seed(time.time_ns() % 2**40); print(torch.rand(2, generator=own))
drawn = own.seed(); print(drawn == own.initial_seed(), drawn, torch.rand(2, generator=own))
own = torch.Generator('cpu'); own.seed(); print(torch.randperm(9, generator=own))
torch.default_generator.seed(); print(torch.rand(2)); torch.seed(); print(torch.rand(2))
torch.manual_seed(time.time_ns()); print(torch.rand(2))
torch.cuda.manual_seed(time.time_ns()); torch.cuda.manual_seed_all(seed=time.time_ns()); torch.cuda.seed()
torch.cuda.seed_all(); print(torch.cuda.is_initialized())
"""


def test_generators_made_by_the_user(run_agent):
    recorded, first = run_agent(OWN)
    replayed, second = run_agent(OWN, entropy=entropy_document(recorded))
    _, other = run_agent(OWN)
    assert "" == first.stderr == second.stderr
    assert first.stdout == second.stdout
    assert ["67280421310721", "False"] == sorted(set(first.stdout.splitlines()) & set(other.stdout.splitlines()))
    assert [] == of_kind(recorded, "gap") + of_kind(replayed, "gap")
    seeds = [(event["function"], event["substituted"]) for event in of_kind(replayed, "seed")]
    assert [
        ("torch.Generator.manual_seed", True),
        ("torch.Generator.manual_seed", True),
        ("torch.manual_seed", True),
        ("torch.cuda.manual_seed", True),
        ("torch.cuda.manual_seed_all", True),
    ] == seeds
    draws = [event["stream"] for event in of_kind(recorded, "entropy") if event["stream"].startswith("torch")]
    assert ["torch.initial_seed", *["torch.Generator.seed"] * 3, "torch.seed"] == draws


AS_IT_WAS = """
import copy, pickle, warnings
warnings.simplefilter('error')
import torch
own = torch.Generator().manual_seed(5)
print(own.manual_seed.__name__, type(own), torch.Generator is torch._C.Generator, own.seed.__doc__ is None)
print(torch.rand(2, generator=own), torch.rand(2, generator=pickle.loads(pickle.dumps(own))), type(own.clone_state()))
for call in (lambda: own.manual_seed('x'), lambda: own.manual_seed(), lambda: own.seed(3), lambda: own.manual_seed(-5),
        lambda: torch.Generator('nowhere'), lambda: torch.Generator.manual_seed(5, 5)):
    try: print(type(call()))
    except Exception as error: print(type(error).__name__, str(error)[:60])
class Mine(torch.Generator): pass
print(torch.rand(2, generator=Mine().manual_seed(4)))
loader = torch.utils.data.DataLoader(list(range(9)), shuffle=True, generator=torch.Generator().manual_seed(3))
print([int(item) for item in loader], torch.utils.data.random_split(range(4), [2, 2], own)[0].indices)
print(torch.nn.init.normal_(torch.empty(3), generator=own), torch.cuda.is_initialized())
"""


def test_generators_are_as_they_were(run_agent):
    events, watched = run_agent(AS_IT_WAS)
    _, bare = run_agent(AS_IT_WAS, agent=False)
    assert (bare.stdout, bare.stderr) == (watched.stdout, watched.stderr)
    assert [] == of_kind(events, "gap")


CUDA = """
import time, torch
print(torch.rand(2, device='cuda')); torch.cuda.seed(); print(torch.rand(2, device='cuda'))
torch.cuda.seed_all(); print(torch.rand(2, device='cuda'))
torch.cuda.manual_seed(time.time_ns()); print(torch.rand(2, device='cuda'))
torch.seed(); print(torch.rand(2, device='cuda'))
own = torch.Generator('cuda'); own.seed(); print(torch.rand(2, device='cuda', generator=own))
"""


@pytest.mark.gpu
@pytest.mark.parametrize("before", ["", "torch.cuda.seed();", "torch.cuda.manual_seed_all(time.time_ns());"])
def test_devices_generators(run_agent, before):
    script = CUDA.replace("print", before + "print", 1)
    recorded, first = run_agent(script)
    replayed, second = run_agent(script, entropy=entropy_document(recorded))
    _, other = run_agent(script)
    assert first.stdout == second.stdout
    assert not set(first.stdout.splitlines()) & set(other.stdout.splitlines())
    assert [] == of_kind(recorded, "gap") + of_kind(replayed, "gap")
    assert "torch.cuda.initial_seed.0" in {event["stream"] for event in of_kind(recorded, "entropy")}
