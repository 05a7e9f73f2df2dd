"""Hardship: whatever a command does to itself and to us, it ends as it would alone, and its record is sealed and true.

Each job runs bare and under `repro record`; output and exit status must be the same. What a record misses is a gap.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from repro.evidence import integrity, trust
from repro.evidence.model import Record
from repro.evidence.store import Store

OURS = ("agent", "data", "lineage", "randomness", "trace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Survived:
    """What became of a job, with us and without."""

    record: Record
    out: str
    err: str

    @property
    def gaps(self) -> list[tuple[str, str, str]]:
        return [(gap.topic, gap.subject, gap.reason) for gap in self.record.gaps if gap.topic in OURS]

    def written(self, name: str) -> bool:
        return any(file.path == name and file.role == "output" for file in self.record.data_files)


Hard = Callable[..., Survived]


@pytest.fixture
def hard(record, repro_home: Path, tmp_path: Path) -> Hard:
    """Return a function that runs a script bare and recorded, holds both to the same end, and returns the record."""

    def run(script: str, *, status: int = 0, variables: dict[str, str] | None = None, typed: str = "") -> Survived:
        folders = [tmp_path / "bare", tmp_path / "recorded"]
        for folder in folders:
            folder.mkdir()
            (folder / "job.py").write_text(script)
        stdin = tmp_path / "typed"
        stdin.write_text(typed)
        command = ["sh", "-c", 'exec "$0" job.py < ../typed', sys.executable]
        environment = {**os.environ, **(variables or {})}
        bare = subprocess.run(
            command, cwd=folders[0], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert status == bare.returncode, bare.stderr
        ran = record(command, cwd=folders[1], variables=variables)
        assert (bare.returncode, bare.stdout) == (ran.exit_status, ran.out), ran.err
        assert _lines(bare.stderr) == _lines(ran.err)
        assert sorted(os.listdir(folders[0])) == sorted(os.listdir(folders[1]))
        store = Store(repro_home)
        found = integrity.load(store.find("@last"), store, trust.trusted_keys(store), allow_unknown_signer=False)
        return Survived(record=found, out=ran.out, err=ran.err)

    return run


def _lines(text: str) -> list[str]:
    """Return what a command itself printed on stderr, but for addresses and folders."""
    lines = [line for line in text.splitlines() if not line.startswith("repro: ")]
    return [re.sub(r"0x[0-9a-f]+|/(bare|recorded)/", "…", line) for line in lines]


FORK_BOMB = """
import os, sys
gate, ready, children = os.pipe(), os.pipe(), []
for number in range(200):
    child = os.fork()
    if not child:
        os.close(gate[1]); os.write(ready[1], b"x"); os.read(gate[0], 1)
        with open(f"out.{number}", "w") as file: file.write(str(number))
        sys.exit(number % 7)
    children.append(child)
for _ in children: os.read(ready[0], 1)
os.close(gate[1])
print(sum(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


def test_two_hundred_processes_at_once(hard: Hard) -> None:
    done = hard(FORK_BOMB)
    assert 201 == len(done.record.processes) == sum(row.ended_at is not None for row in done.record.processes)
    assert all(done.written(f"out.{number}") for number in range(200))
    assert [] == done.gaps


FORKS_AFTER_THREADS = """
import os, random, sys, threading, time
stop = threading.Event()
def work(number):
    while not stop.is_set():
        with open(f"t{number}", "w") as file: file.write("x")
        random.Random(); time.sleep(0.0002)
threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
for each in threads: each.start()
stuck = 0
for number in range(24):
    child = os.fork()
    if not child:
        open("child", "a").close(); random.Random()
        os._exit(0) if number % 2 else sys.exit(0)
    waited = 0
    while not os.waitpid(child, os.WNOHANG)[0]:
        time.sleep(0.01); waited += 1
        if waited == 3000: os.kill(child, 9); stuck += 1
stop.set()
for each in threads: each.join()
print("stuck", stuck)
"""


def test_forks_while_other_threads_are_in_the_agent(hard: Hard) -> None:
    done = hard(FORKS_AFTER_THREADS)
    assert "stuck 0\n" == done.out
    assert 25 == len(done.record.processes)
    assert all(reason.startswith("more than 1000 values") for _, _, reason in done.gaps)


DAEMON = """
import os, sys, time
read, write = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork(): os._exit(0)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2): os.dup2(null, fd)
    os.write(write, b"x"); os.close(write)
    time.sleep(20)
    sys.exit(0)
os.wait(); os.read(read, 1)
print("done"); sys.exit(4)
"""


def test_a_daemon_that_outlives_the_command_is_a_gap(hard: Hard) -> None:
    done = hard(DAEMON, status=4)
    assert 3 == len(done.record.processes)
    assert any("went on after the command had ended" in reason for topic, _, reason in done.gaps if topic == "lineage")


SIGNALS = """
import os, random, signal, sys, threading, time
ticks = 0
def alarm(number, frame):
    global ticks
    ticks += 1
    open(f"tick{ticks % 3}", "w").close(); random.Random()
signal.signal(signal.SIGALRM, alarm)
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
until = time.monotonic() + 1
while time.monotonic() < until:
    open("f", "w").close(); random.Random()
signal.setitimer(signal.ITIMER_REAL, 0)
def usr(number, frame): raise KeyError("usr")
signal.signal(signal.SIGUSR1, usr)
class Late(Exception): pass
def late(number, frame): raise Late
signal.signal(signal.SIGALRM, late)
caught = lost = 0
for _ in range(150):
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.003)
        until = time.monotonic() + 2
        while time.monotonic() < until: open("g", "w").close(); random.Random()
        lost += 1
    except Late: caught += 1
for _ in range(40):
    try: os.kill(os.getpid(), signal.SIGUSR1)
    except KeyError: caught += 1
print(caught, lost, ticks > 3, flush=True)
def term(number, frame): print("term"); sys.exit(9)
signal.signal(signal.SIGTERM, term)
threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
while True: open("h", "w").close()
"""


def test_signals_whose_handlers_open_files_and_raise(hard: Hard) -> None:
    done = hard(SIGNALS, status=9)
    assert ["190 0 True", "term"] == done.out.splitlines(), "no exception of a handler is lost in the agent"
    assert ("failed", 9) == (done.record.run.status, done.record.run.exit_code)
    assert [] == [name for name in ("tick0", "tick1", "tick2", "f", "g", "h") if not done.written(name)]
    (process,) = done.record.processes
    assert process.ended_at is not None
    assert all(re.search("values were drawn|^Late: |lines of its event log|events were lost", r) for *_, r in done.gaps)


ENDS = """
import os, sys
def child(act):
    if os.fork() == 0: act()
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
def leave(): open("one", "w").close(); os._exit(5)
child(leave)
child(lambda: os.execv(sys.executable, [sys.executable, "-c", "open('two', 'w').close(); raise SystemExit(6)"]))
child(lambda: os.execve("/bin/sh", ["sh", "-c", "echo 3 > three; exit 7"], {}))
child(os.abort)
os._exit(8)
"""


def test_exits_that_run_no_handler(hard: Hard) -> None:
    done = hard(ENDS, status=8)
    assert ["5", "6", "7", "-6"] == done.out.split()
    assert all(map(done.written, ("one", "two", "three")))
    assert [] == done.gaps
    assert 6 == len(done.record.processes)


SHUTDOWN = """
import atexit, random, sys, threading, time
def forever():
    while True: open("daemonic", "w").close(); random.Random()
for _ in range(4): threading.Thread(target=forever, daemon=True).start()
@atexit.register
def late(): open("late", "w").close(); print(random.Random(3).random())
class Last:
    def __del__(self): print("last")
kept = Last(); kept.me = kept; sys.modules["kept"] = kept
time.sleep(0.1); print("end")
"""


def test_a_shutdown_with_threads_that_go_on(hard: Hard) -> None:
    done = hard(SHUTDOWN)
    assert done.written("late")
    assert done.written("daemonic")
    assert all("values were drawn" in reason for _, _, reason in done.gaps)


PATCHED = """
import builtins, json, os, random, sys, time
real_open, real_print = open, print
def no(*args, **kwargs): raise RuntimeError("patched")
time.time = time.monotonic = time.perf_counter = lambda: 12.0
time.time_ns = time.monotonic_ns = lambda: 12
builtins.open = builtins.print = builtins.repr = no
json.dumps = json.loads = json.dump = json.load = no
import repro
for step in range(5): repro.log_metric("x", step)
with real_open("y", "w") as file: file.write("y")
random.seed(3)
kept = os.fsencode, os.stat, os.getpid, os.path.join, os.path.abspath
os.fsencode = os.stat = os.path.join = os.path.abspath = no; os.getpid = lambda: 1
with real_open("z", "w") as file: file.write("z")
os.fsencode, os.stat, os.getpid, os.path.join, os.path.abspath = kept
real_print(time.time(), random.random())
"""


def test_functions_that_are_patched_and_a_clock_that_stands_still(hard: Hard) -> None:
    done = hard(PATCHED)
    assert [0, 1, 2, 3, 4] == [row.step for row in done.record.metrics]
    times = [row.at_seconds for row in done.record.metrics]
    assert times == sorted(times)
    assert 0 < times[0]
    assert all(map(done.written, ("y", "z")))
    assert all("patched" in reason for _, _, reason in done.gaps), done.gaps


WIPED = """
import os, subprocess, sys
code = "open('child', 'a').close(); print(1)"
for name in ("PYTHONPATH", "REPRO_EVENTS"): os.environ.pop(name, None)
sys.path[:] = [entry for entry in sys.path if "python3" in entry]
sys.meta_path[:] = [each for each in sys.meta_path if "repro" not in type(each).__module__]
print(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)
print(subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, env={}).stdout)
open("mine", "w").close()
"""


def test_children_without_our_variables_are_gaps_and_their_files_are_seen(hard: Hard) -> None:
    done = hard(WIPED)
    reasons = [reason for topic, _, reason in done.gaps if topic == "agent"]
    assert any("-I, -E or -S" in reason for reason in reasons)
    assert any("never reported" in reason for reason in reasons)
    assert all(map(done.written, ("child", "mine")))


TRACED = """
import faulthandler, sys, threading
faulthandler.enable(); faulthandler.dump_traceback_later(100)
lines = 0
def tracer(frame, event, argument):
    global lines
    lines += 1
    return tracer
sys.settrace(tracer); threading.settrace(tracer)
open("a", "w").close()
import colorsys
sys.settrace(None)
def profiler(frame, event, argument): return None
sys.setprofile(profiler); open("b", "w").close(); sys.setprofile(None)
def raising(frame, event, argument): raise KeyError("theirs")
sys.settrace(raising)
try: (lambda: open("c", "w"))()
except KeyError as error: print("theirs", error)
print(sys.gettrace(), lines > 0)
sys.setrecursionlimit(60)
def deep():
    try: open("deep", "w").close()
    except RecursionError: pass
    return deep()
try: deep()
except RecursionError: print("deep")
sys.setrecursionlimit(1000)
open("d", "w").close()
"""


def test_tracers_profilers_and_a_stack_that_ends(hard: Hard) -> None:
    done = hard(TRACED)
    assert all(map(done.written, ("a", "b", "d", "deep")))
    assert all("RecursionError" in reason for _, _, reason in done.gaps)


LIMITS = """
import random, resource, sys
print(sys.stdin.read().upper())
resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12))
held = []
try:
    while True: held.append(open("data", "w"))
except OSError as error: print(error.errno)
random.Random()
held.clear()
for number in range(500): open(f"many{number % 3}", "w").close()
resource.setrlimit(resource.RLIMIT_AS, (300 << 20,) * 2)
try:
    while True: held.append(bytearray(1 << 20))
except MemoryError: print("full")
try:
    for number in range(500): open(f"many{number % 3}", "w").close(); random.Random()
except MemoryError: print("theirs")
held.clear()
for number in range(500): open(f"more{number % 3}", "w").close()
print("ok")
"""


def test_few_descriptors_little_memory_and_standard_input(hard: Hard) -> None:
    done = hard(LIMITS, typed="typed\n", variables={"HOME": "/nonexistent"})
    assert ["TYPED", "24", "full", "ok"] == done.out.split()
    assert all(map(done.written, ("data", "many0", "more2")))
    assert [] == done.gaps


THOUSAND = """
import random, repro, threading
gate = threading.Barrier(1000)
def work(number):
    gate.wait()
    for step in range(5): repro.log_metric(f"m{number % 10}", step + number)
    open(f"o{number % 10}", "a").close()
threading.stack_size(256 * 1024)
threads = [threading.Thread(target=work, args=(number,)) for number in range(1000)]
for each in threads: each.start()
for each in threads: each.join()
try: import _interpreters as interpreters
except ImportError: import _xxsubinterpreters as interpreters
for number in range(2):
    made = interpreters.create()
    interpreters.run_string(made, f"open('sub{number}', 'w').close()")
    interpreters.destroy(made)
print("done")
"""


def test_a_thousand_threads_and_interpreters_within_the_process(hard: Hard) -> None:
    done = hard(THOUSAND)
    points = [(row.name, row.step, row.value) for row in done.record.metrics]
    assert 5000 == len(points) == len({(name, step) for name, step, _ in points})
    assert sorted(float(step + number) for number in range(1000) for step in range(5)) == sorted(v for *_, v in points)
    assert all(map(done.written, ("o0", "o9", "sub0", "sub1")))
    assert [] == done.gaps


EVIL = """
import argparse, os, random, repro
class Evil:
    def _no(self, *args): raise RuntimeError("theirs")
    __repr__ = __str__ = __eq__ = __hash__ = __fspath__ = __len__ = __bool__ = __index__ = __float__ = __format__ = _no
    def __getattr__(self, name): raise RuntimeError("attribute " + name)
class Text(str):
    def _no(self, *args): raise RuntimeError("theirs")
    __str__ = encode = __eq__ = __format__ = _no
    __hash__ = str.__hash__
parser = argparse.ArgumentParser()
parser.add_argument("--x", default=Evil())
parser.parse_args([])
for call in (
    lambda: open(Evil()), lambda: random.seed(Evil()), lambda: repro.log_metric("x", Evil()),
    lambda: repro.log_param("p", Evil()), lambda: repro.log_param(Evil(), 1), lambda: os.listdir(Evil()),
    lambda: os.rename(Evil(), "x"), lambda: os.putenv("a", Evil()), lambda: repro.log_metric(Text("name"), 1.0),
):
    try: print("fine", type(call()).__name__)
    except Exception as error: print(type(error).__name__, error)
open(Text("text"), "w").close()
"""


def test_objects_that_raise_whatever_they_are_asked(hard: Hard) -> None:
    done = hard(EVIL)
    assert done.written("text")
    assert "trace" in {topic for topic, _, _ in done.gaps}


SITE = """
import sys
if "job.py" in sys.orig_argv:  # not in the recorder itself, which has this PYTHONPATH, too
    sys.users_own = "here"
    print("user's site", flush=True)
    open("from_site", "w").close()
"""


def test_the_users_own_sitecustomize_runs_once(hard: Hard, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITE)
    done = hard("import sys; print(sys.users_own)", variables={"PYTHONPATH": str(tmp_path / "site")})
    assert ["user's site", "here"] == done.out.splitlines()
    assert done.written("from_site")
    assert [] == done.gaps


FULL = """
import os, repro
junk = open(os.environ["FULL_DISK"] + "/junk", "wb", buffering=0)
repro.log_metric("x", 1.0, 0)
for size in (65536, 128):
    try:
        while True: junk.write(b"x" * size)
    except OSError as error: assert error.errno == 28
for step in range(1, 200000): repro.log_metric("x", step * 0.1, step)
if os.fork() == 0: open("c", "w").close(); os._exit(0)
os.wait()
junk.close(); os.remove(os.environ["FULL_DISK"] + "/junk")
repro.log_metric("x", 5.0, 200001)
open("y", "w").close(); raise SystemExit(3)
"""


def test_a_disk_that_is_full_while_the_command_runs(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    (tmp_path / "job.py").write_text(FULL)
    run = '"$0" -m repro record --lock-timeout 0 -- "$0" job.py; echo status $?'
    run += '; "$0" -m repro verify @last; "$0" -m repro show'
    script = f'mount -t tmpfs -o size=48m none "$FULL_DISK" || exit 99; {run}'
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare here")
    environment = {**os.environ, "FULL_DISK": str(disk), "REPRO_HOME": str(disk / "home")}
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, sys.executable],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    if done.returncode == 99 or "unshare failed" in done.stderr:
        pytest.skip("this user may not mount a small disk")
    assert "status 3" in done.stdout, done.stderr
    assert "INTACT" in done.stdout
    assert re.search(r"the event log could not be written: \d+ events were lost", done.stdout)
    assert "a process woke the agent, but its log does not begin with a readable start" in done.stdout


TORCH = """
import atexit, gc, os, random, signal, torch, warnings
warnings.simplefilter("error")
nn = torch.nn
torch.manual_seed(0); random.seed(0)
class Evil:
    def _no(self, *args): raise RuntimeError("theirs")
    __repr__ = __str__ = __eq__ = __hash__ = __bool__ = __float__ = __format__ = _no
    def __getattr__(self, name): raise RuntimeError("attribute " + name)
class Module(nn.Linear):
    def __eq__(self, other): raise RuntimeError("theirs")
    def __hash__(self): return 7
    def __repr__(self): raise RuntimeError("theirs")
def fit(model, optimizer, steps=4, step=lambda optimizer: optimizer.step()):
    for _ in range(steps):
        optimizer.zero_grad(); loss = model(torch.randn(4, 3)).square().mean(); loss.backward(); step(optimizer)
        print(loss.item().hex())
class NoClosure(torch.optim.Optimizer):
    def __init__(self, params): super().__init__(params, {"lr": 0.1, "evil": Evil(), "list": [Evil()]})
    def step(self):
        with torch.no_grad():
            for each in self.param_groups[0]["params"]:
                each.sub_(each.grad, alpha=0.1); self.state[each].update(evil=Evil(), tensor=torch.ones(2))
class Strange(torch.optim.Optimizer):
    def __init__(self, params): super().__init__(params, {})
    def step(self, /, rate, *rest, closure=None, **more):
        with torch.no_grad(): [each.sub_(each.grad, alpha=rate) for each in self.param_groups[0]["params"]]
        return rate, rest, more
class Raises(torch.optim.SGD):
    def step(self, closure=None): super().step(closure); raise ValueError("theirs")
class Around:
    def __init__(self, inner): self.inner = inner
    def __getattr__(self, name): return getattr(self.inner, name)
    def step(self): return self.inner.step()
model = Module(3, 2)
fit(model, NoClosure(model.parameters()))
fit(model, Strange(model.parameters()), step=lambda optimizer: print(optimizer.step(0.1, 2, x=3)))
fit(model, Around(torch.optim.Adam(model.parameters())))
def raising(optimizer):
    try: optimizer.step()
    except ValueError as error: print(error)
fit(model, Raises(model.parameters(), lr=0.1), step=raising)
class Bad(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x): return x.clone()
    @staticmethod
    def backward(ctx, gradient): raise RuntimeError("in backward")
adam = torch.optim.Adam(model.parameters())
for number in range(6):
    x = model(torch.randn(4, 3)); loss = (Bad.apply(x) if number % 2 else x).mean()
    try: loss.backward()
    except RuntimeError as error: print(error)
    adam.step(); print(loss.item().hex())
class Interrupted(torch.optim.SGD):
    def step(self, closure=None): os.kill(os.getpid(), signal.SIGINT); return super().step(closure)
stopped = Interrupted(model.parameters(), lr=0.1)
for number in range(5):
    stopped.zero_grad(); loss = model(torch.randn(4, 3)).mean(); loss.backward()
    try: stopped.step()
    except KeyboardInterrupt: print("interrupted", loss.item().hex())
class Node: pass
gc.disable()
for _ in range(30000):
    a, b = Node(), Node(); a.b, b.a = b, a
hits = []
def callback(phase, info): hits.append(phase); torch.ones(1)
gc.callbacks.append(callback); gc.set_threshold(5, 2, 2); gc.enable()
class Dies:
    def __del__(self): open("died", "a").close(); torch.ones(2).sum()
for _ in range(50): dying = Dies(); dying.me = dying; del dying
big = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
gc.freeze()
fit(big, torch.optim.SGD(big.parameters(), 0.1))
gc.unfreeze(); gc.callbacks.clear(); gc.set_threshold(700, 10, 10)
huge = nn.Linear(3, 2)
fit(huge, torch.optim.SGD(huge.parameters(), 1e38), steps=6)
@atexit.register
def more():
    last = nn.Linear(3, 2); fit(last, torch.optim.SGD(last.parameters(), 0.1))
print("end")
"""


@pytest.mark.torch
def test_a_training_with_all_that_can_go_wrong_in_it(hard: Hard) -> None:
    done = hard(TORCH)
    assert done.out.count("interrupted") == 5
    assert done.out.count("in backward") == 3
    assert {("parameter names", "gc.freeze")} == {
        (subject, "gc.freeze" if "gc.freeze" in reason else reason) for topic, subject, reason in done.gaps
    }
    anchors = {row.anchor for row in done.record.fingerprints}
    assert {f"optimizer.{number}" for number in range(9)} == anchors
    steps = {row.name: row.value for row in done.record.settings if row.name.startswith("trace.steps.")}
    assert ("6", "5", "4") == tuple(steps[f"trace.steps.optimizer.{number}"] for number in (4, 5, 8))
    assert done.record.fact("trace", "chain.main") not in (None, "broken")
