"""The event log survives kill -9, a full disk, hostile file descriptors, threads, signals and finalisers."""

import json
import os
import subprocess
import sys

import pytest
from event_logs import AGENT, INJECT, ROOT, bare_environment, of_kind, read_events

AGENT_OBJECT = "import gc, sys; agent = next(o for o in gc.get_objects() if type(o).__name__ == 'Agent')\n"


def test_kill_loses_nothing(run_agent, python):
    script = AGENT_OBJECT + (
        "for step in range(5000): agent.metric('loss', step, step / 3, 'float32', 0.0)\n"
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    )
    events, finished = run_agent(script, python=python)
    assert -9 == finished.returncode
    assert list(range(5000)) == [event["step"] for event in of_kind(events, "metric")]
    assert [step / 3 for step in range(5000)] == [float.fromhex(event["value"]) for event in of_kind(events, "metric")]
    assert [] == of_kind(events, "end")


def test_the_file_has_its_true_length_in_the_end(run_agent, python, tmp_path):
    run_agent("pass", python=python)
    (path,) = (tmp_path / "events.0").glob("*.jsonl")
    assert path.read_bytes().endswith(b"}\n")
    assert 0o600 == path.stat().st_mode & 0o777


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (float("-inf"), "-inf"),
        (-0.0, "-0x0.0p+0"),
        (5e-324, "0x0.0000000000001p-1022"),
    ],
)
def test_metrics_are_exact(run_agent, value, text):
    events, _ = run_agent(AGENT_OBJECT + f"agent.metric('loss', 0, float('{value}'), 'float64', 0.0)")
    assert text == of_kind(events, "metric")[0]["value"]


def test_text_that_is_not_utf8(run_agent, python):
    events, finished = run_agent(
        AGENT_OBJECT + "agent.emit('library', name='caf\\u00e9\\udcff\\x00\\n\"\\\\', version=sys.argv[1])",
        python=python,
        arguments=(os.fsdecode(b"\xff\xfe"),),
    )
    assert 0 == finished.returncode
    library = of_kind(events, "library")[0]
    assert 'café\\udcff\x00\n"\\' == library["name"]
    assert "\\udcff\\udcfe" == library["version"]
    assert "\\udcff\\udcfe" == of_kind(events, "start")[0]["argv"][-1]


CLOSES_EVERYTHING = (
    AGENT_OBJECT
    + """
import os
for round in range(40):
    os.closerange(3, 100)
    mine = [os.open('mine.%d' % n, os.O_CREAT | os.O_RDWR) for n in range(8)]
    for step in range(2000):
        agent.metric('loss', round * 2000 + step, 0.5, 'float32', 0.0)
    for n, fd in enumerate(mine):
        assert os.fstat(fd).st_size == 0, 'written by us'
        os.close(fd)
"""
)


def test_a_program_that_closes_descriptors_it_does_not_know(run_agent, python):
    events, finished = run_agent(CLOSES_EVERYTHING, python=python)
    assert "" == finished.stderr
    assert list(range(80000)) == [event["step"] for event in of_kind(events, "metric")]


def test_threads_signals_and_finalisers(run_agent, python):
    script = (
        AGENT_OBJECT
        + """
import signal, threading, time
class Litter:
    def __init__(self): self.me = self
    def __del__(self): open('litter.txt', 'w').close(); agent.emit('remove', path='/litter')
signal.signal(signal.SIGALRM, lambda *_: agent.emit('remove', path='/signal'))
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
def work(name):
    for step in range(3000):
        Litter()
        agent.metric(name, step, 1.0, 'float32', 0.0)
threads = [threading.Thread(target=work, args=('t%d' % n,)) for n in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
signal.setitimer(signal.ITIMER_REAL, 0)
"""
    )
    events, finished = run_agent(script, python=python)
    assert ("", 0) == (finished.stderr, finished.returncode)
    for name in ("t0", "t1", "t2", "t3"):
        assert list(range(3000)) == [event["step"] for event in of_kind(events, "metric") if event["name"] == name]
    assert {event["path"] for event in of_kind(events, "remove")} >= {"/litter", "/signal"}
    assert [] == of_kind(events, "gap")


@pytest.mark.usefixtures("unmeasured_jobs")
def test_later_events_than_the_end_are_appended(run_agent, python):
    script = (
        "import sys, gc; at = [m for m in sys.modules if m == '_repro_agent']\n"
        + AGENT_OBJECT
        + "agent.end()\nopen('late.txt', 'w').close()\nagent.end()"
    )
    events, finished = run_agent(script, python=python)
    assert "" == finished.stderr
    assert ["end", "open"] == [event["event"] for event in events][-2:]


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_survived_and_told(run_agent, python, small_disk):
    script = (
        AGENT_OBJECT
        + f"""
filler = open('{small_disk}/filler', 'wb', buffering=0)
filler.write(bytes(100_000))
for step in range(4000): agent.metric('loss', step, 1.0, 'float32', 0.0)
try:
    while True: filler.write(bytes(1024))
except OSError: pass
for step in range(4000, 5000): agent.metric('loss', step, 1.0, 'float32', 0.0)
filler.truncate(0)
agent.metric('loss', 5000, 1.0, 'float32', 0.0)
print('on')
"""
    )
    _, finished = run_agent(script, python=python, env={"REPRO_EVENTS": str(small_disk)})
    events = read_events(small_disk)
    steps = sorted(event["step"] for event in of_kind(events, "metric"))  # in the file of points, then in the log
    assert ("on\n", "", 0) == (finished.stdout, finished.stderr, finished.returncode)
    assert 100 < len(steps) < 5000
    assert 5000 == steps[-1]
    lost = [gap["reason"] for gap in of_kind(events, "gap")]
    assert [f"the event log could not be written: {5001 - len(steps)} events were lost"] == lost


def test_no_file_may_be_made_at_all(run_agent, small_disk, python):
    subprocess.run(f"head -c 1M /dev/zero > {small_disk}/full", shell=True, check=False, capture_output=True)
    _, finished = run_agent("import random; print('on')", python=python, env={"REPRO_EVENTS": str(small_disk)})
    assert ("on\n", "") == (finished.stdout, finished.stderr)


def test_the_folder_vanishes_while_training(run_agent, python, tmp_path):
    script = AGENT_OBJECT + (
        "import os, shutil; shutil.rmtree(os.environ['REPRO_EVENTS'])\n"
        "for step in range(20000): agent.metric('loss', step, 1.0, 'float32', 0.0)\n"
        "if os.fork() == 0: raise SystemExit(0)\nprint(os.wait()[1])"
    )
    _, finished = run_agent(script, python=python)
    assert ("0\n", "") == (finished.stdout, finished.stderr)


@pytest.mark.usefixtures("unmeasured_jobs")
def test_a_file_size_limit(run_agent, python):
    script = AGENT_OBJECT + (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "for step in range(5000): agent.metric('loss', step, 1.0, 'float32', 0.0)\nprint('on')"
    )
    events, finished = run_agent(script, python=python)
    assert ("on\n", "") == (finished.stdout, finished.stderr)
    assert 500 < len(of_kind(events, "metric")) < 5000


WITHOUT_POINTS = {"metric"}
"""What is told only where the file of points cannot be written."""
OF_TORCH = {"tensors", "trace", "determinism"}
TOLD_ELSEWHERE = {"model", "checkpoint", "operation", "group"}
"""Kinds that the tests of their own rooms hold to the schema."""


def lines_of(folder):
    """Return every line of every log of a folder."""
    return [
        json.loads(line) for path in folder.glob("*.jsonl") for line in path.read_bytes().rstrip(b"\0").splitlines()
    ]


@pytest.mark.torch
def test_events_of_a_training_are_as_the_schema_says(run_agent, tmp_path):
    import jsonschema

    script = """
import torch
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.Adam(model.parameters())
for _ in range(3):
    model(torch.ones(4, 2)).sum().backward()
    optimizer.step()
torch.set_num_threads(1 + torch.get_num_threads())
"""
    run_agent(script)
    lines = lines_of(tmp_path / "events.0")
    validator = jsonschema.Draft202012Validator(json.loads((ROOT / "schemas/event-1.json").read_text()))
    assert [] == [str(error.message) for line in lines for error in validator.iter_errors(line)]
    assert {line["event"] for line in lines} >= OF_TORCH


def test_events_are_as_the_schema_says(run_agent, python, tmp_path):
    import jsonschema

    schema = json.loads((ROOT / "schemas/event-1.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    script = (
        AGENT_OBJECT
        + """
import argparse, os, random, subprocess, uuid, tempfile
parser = argparse.ArgumentParser(); parser.add_argument('--lr', type=float, default=0.1); parser.parse_args()
random.seed(3), random.seed('x'), random.random(), random.Random(), uuid.uuid4()
open('a.txt', 'w').close()
open('a.txt').close()
open('a.txt', 'r+').close()
os.rename('a.txt', 'b.txt')
os.remove('b.txt')
subprocess.run([sys.executable, '-c', 'pass']); os.system('true')
agent.metric('loss', 0, 0.1, 'float32', agent._log.started)
agent.metric('loss', 1, float('nan'), 'float32', agent._log.started + 1)
agent.gap('trace', 'x', 'y'); agent.gap('trace', 'x', 'y'); agent.emit('setting', moment='end', name='n', value='v')
if os.fork() == 0: os.execv(sys.executable, [sys.executable, '-c', 'pass'])
os.wait()
"""
    )
    run_agent(script, python=python, env={"RANK": "1", "WORLD_SIZE": "x"})
    lines = lines_of(tmp_path / "events.0")
    validator = jsonschema.Draft202012Validator(schema)
    assert [] == [str(error.message) for line in lines for error in validator.iter_errors(line)]
    assert set(schema["$defs"]) - WITHOUT_POINTS - OF_TORCH - TOLD_ELSEWHERE == {line["event"] for line in lines}
    assert 1 == sum(line["event"] == "gap" for line in lines)


def test_the_schema_refuses_what_it_does_not_know():
    import jsonschema

    validator = jsonschema.Draft202012Validator(json.loads((ROOT / "schemas/event-1.json").read_text()))
    assert not validator.is_valid({"event": "end"})
    assert not validator.is_valid({"event": "end", "ended_at": 1.5, "more": 1})
    assert not validator.is_valid(
        {"event": "metric", "name": "loss", "step": 0, "value": "0.5", "dtype": "float32", "at": 0}
    )
    assert validator.is_valid({"event": "end", "ended_at": 1.5})


def test_only_the_standard_library_is_imported():
    import ast

    foreign = set()
    for path in AGENT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(), feature_version=(3, 9))):
            if isinstance(node, ast.Import):
                foreign |= {name.name.partition(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                foreign.add(str(node.module).partition(".")[0])
    assert {"repro"} == foreign - set(sys.stdlib_module_names) - {"_sha256", "_sha2"}  # which only type checkers import


@pytest.mark.usefixtures("unmeasured_jobs")
def test_start_imports_few_modules(python):
    script = "import sys; print(' '.join(sorted(sys.modules)))"
    bare = subprocess.check_output([python, "-c", script], env=bare_environment(), text=True).split()
    environment = dict(bare_environment(), REPRO_EVENTS="/nonexistent", PYTHONPATH=str(INJECT))
    watched = subprocess.check_output([python, "-c", script], env=environment, text=True).split()
    added = {name for name in set(watched) - set(bare) if not name.startswith("_repro_agent")}
    assert added <= {"__future__", "_json", "mmap", "atexit"}
