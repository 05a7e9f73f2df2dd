"""Each operation of one step, as the dispatcher ran it; and the end of a process after its first steps."""

from __future__ import annotations

import re

import pytest
from event_logs import of_kind

pytestmark = pytest.mark.torch

TRAIN = """
import os, sys, torch
torch.manual_seed(5)
torch.set_num_threads(1)
model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Dropout(0.3), torch.nn.Linear(5, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
held = torch.empty(7)
for step in range(5):
    batch = torch.randn(4, 6)
    noise = torch.empty(4, 6).normal_()
    vmapped = torch.func.vmap(lambda row: row.sin() * 2)(batch)
    loss = (model(batch + noise + vmapped) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(step, loss.item().hex(), flush=True)
"""
COMPILED = """
import torch
torch.manual_seed(5)
model = torch.nn.Linear(6, 1)
model.compile(backend="eager")
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for step in range(4):
    optimizer.zero_grad()
    loss = model(torch.ones(4, 6)).sum()
    loss.backward()
    optimizer.step()
    print(step, loss.item().hex())
"""
MODES = """
import torch
from torch.utils._python_dispatch import TorchDispatchMode
class Theirs(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))
weight = torch.nn.Parameter(torch.ones(3))
optimizer = torch.optim.SGD([weight], lr=0.1)
with Theirs():
    weight.sum().backward()
    optimizer.step()
mode = Theirs()
mode.__enter__()
weight.sum().backward()
optimizer.step()
mode.__exit__(None, None, None)
print(weight.tolist(), torch.utils._python_dispatch._get_current_dispatch_mode())
"""
ENDED = """
import atexit, sys, torch
from torch.utils.data import DataLoader, TensorDataset
if __name__ == "__main__":
    atexit.register(print, "never")
    weight = torch.nn.Parameter(torch.ones(3))
    other = torch.nn.Parameter(torch.ones(3))
    optimizers = [torch.optim.SGD([weight], lr=0.1), torch.optim.SGD([other], lr=0.1)]
    try:
        for (batch,) in DataLoader(TensorDataset(torch.ones(40, 3)), batch_size=2, num_workers=2):
            ((weight + other) * batch).sum().backward()
            for optimizer in optimizers:
                optimizer.step()
            sys.stdout.write("step ")
    finally:
        print("never")
"""


def operations(events, key="main"):
    return of_kind(events, "operation", key)


def test_the_operations_of_a_step_change_no_bit(run_agent):
    _, bare = run_agent(TRAIN, agent=False)
    events, finished = run_agent(TRAIN, env={"REPRO_TRACE_OPERATIONS": "2"})
    assert (0, bare.stdout, "") == (finished.returncode, finished.stdout, finished.stderr)
    told = operations(events)
    assert {("optimizer.0", 2)} == {(each["anchor"], each["step"]) for each in told}
    assert [] == [gap for gap in of_kind(events, "gap") if gap["topic"] == "trace"]
    names = [each["name"] for each in told]
    assert names.index("aten::randn") < names.index("aten::addmm") < names.index("aten::mm")
    assert all(each["site"].rpartition("/")[2].startswith("script.py:") or not each["site"] for each in told)
    by_name = {each["name"]: each for each in told}
    assert re.search("generator [0-9a-f]{16}$", by_name["aten::randn"]["inputs"])
    assert re.match(r"float32\[1\] [0-9a-f]{16}, float32\[4,5\] ", by_name["aten::addmm"]["inputs"])
    assert by_name["aten::empty.memory_format"]["words"] == "-" * 16, "it holds what lay in memory"
    assert by_name["aten::normal_"]["inputs"].startswith("float32[4,6], "), "what it writes over bears on nothing"
    assert {"script.py:12 backward"} == {e["site"].rpartition("/")[2] for e in told if e["name"] == "aten::mm"}
    assert "script.py:11" == by_name["aten::sin"]["site"].rpartition("/")[2]


def test_two_runs_tell_the_same_operations_and_the_first_step_begins_with_the_import(run_agent):
    both = [run_agent(TRAIN, env={"REPRO_TRACE_OPERATIONS": "0"})[0] for _ in range(2)]
    first, second = ([{**each, "at": 0} for each in operations(events)] for events in both)
    assert first == second != []
    assert "aten::uniform_" in {each["name"] for each in first}, "the model's initial values belong to it"


def test_compiled_code_stays_compiled_and_is_a_gap(run_agent):
    _, bare = run_agent(COMPILED, agent=False)
    events, finished = run_agent(COMPILED, env={"REPRO_TRACE_OPERATIONS": "2"})
    assert (0, bare.stdout) == (finished.returncode, finished.stdout), finished.stderr
    assert [gap["subject"] for gap in of_kind(events, "gap") if gap["topic"] == "trace"] == ["operations"]
    assert operations(events)


def test_the_user_s_own_modes_are_left_alone(run_agent):
    for step in "01":
        events, finished = run_agent(MODES, env={"REPRO_TRACE_OPERATIONS": step})
        assert (0, "") == (finished.returncode, finished.stderr)
        assert re.match(r"\[0\.69\d+, 0\.69\d+, 0\.69\d+\] None", finished.stdout), "no mode stays behind"
        assert operations(events)


def test_a_process_ends_after_its_first_steps_with_its_workers(run_agent):
    events, finished = run_agent(ENDED, env={"REPRO_STEPS": "4"})
    assert (0, "step step step ", "") == (finished.returncode, finished.stdout, finished.stderr)
    stopped = [each for each in of_kind(events, "setting") if each["name"] == "replay.stopped_after"]
    assert [("main", "4")] == [(each["process_key"], each["value"]) for each in stopped]
    assert 4 == len([each for each in of_kind(events, "metric") if each["name"] == "loss"])
    assert {"main", "main/fork.1", "main/fork.2"} == {each["process_key"] for each in of_kind(events, "end")}


@pytest.mark.parametrize("steps", ["0", "900"])
def test_a_training_that_is_not_to_be_ended_is_not(run_agent, steps):
    events, finished = run_agent(TRAIN, env={"REPRO_STEPS": steps})
    assert (0, 5) == (finished.returncode, finished.stdout.count("\n"))
    assert not [each for each in of_kind(events, "setting") if each["name"] == "replay.stopped_after"]
