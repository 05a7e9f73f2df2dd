"""The file of points: nothing is lost to threads, signals, finalisers, forks or kills; else, points are in the log."""

import collections
import json
import signal

from event_logs import of_kind

AGENT_OBJECT = "import gc, sys; agent = next(o for o in gc.get_objects() if type(o).__name__ == 'Agent')\n"


def files(folder):
    """Return the sizes of the files of points, and the kinds of events in the logs beside them."""
    sizes = sorted(path.stat().st_size for path in folder.glob("*.points"))
    lines = [line for path in folder.glob("*.jsonl") for line in path.read_bytes().rstrip(b"\0").splitlines()]
    return sizes, collections.Counter(json.loads(line)["event"] for line in lines)


def test_a_process_without_metrics_makes_no_file(run_agent, python, tmp_path):
    run_agent("pass", python=python)
    sizes, kinds = files(tmp_path / "events.0")
    assert ([], 0) == (sizes, kinds["series"])


def test_a_point_is_a_record_of_32_bytes_in_a_file_of_its_true_length(run_agent, python, tmp_path):
    script = "for step in range(5000): agent.metric('loss', step, 0.5, 'float32', 0.0)"
    events, _ = run_agent(AGENT_OBJECT + script, python=python)
    sizes, kinds = files(tmp_path / "events.0")
    assert ([32 * 5001], 1, 0) == (sizes, kinds["series"], kinds["metric"])
    assert 5000 == len(of_kind(events, "metric"))


def test_each_name_and_type_is_a_series(run_agent, python):
    script = """
for step in range(300):
    agent.metric('m%d' % (step % 100), step, 0.5, 'float32' if step < 200 else 'float64', 0.0)
"""
    events, _ = run_agent(AGENT_OBJECT + script, python=python)
    assert list(range(1, 201)) == [event["number"] for event in of_kind(events, "series")]
    assert {(f"m{step % 100}", step) for step in range(300)} == {
        (e["name"], e["step"]) for e in of_kind(events, "metric")
    }


def test_threads_signals_and_finalisers_may_tell_points(run_agent, python):
    script = (
        AGENT_OBJECT
        + """
import itertools, signal, threading, time
now = time.monotonic
counts = {name: itertools.count() for name in ('signal', 'final')}
def tell(name): agent.metric(name, next(counts[name]), 1.0, 'float32', now())
class Litter:
    def __init__(self): self.me = self
    def __del__(self): tell('final')
signal.signal(signal.SIGALRM, lambda *_: tell('signal'))
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
def work(name):
    for step in range(8000):
        Litter()
        agent.metric(name, step, 1.0, 'float32', now())
threads = [threading.Thread(target=work, args=('t%d' % n,)) for n in range(4)]
for thread in threads: thread.start()
for step in range(8000): agent.metric('main', step, 1.0, 'float32', now())
for thread in threads: thread.join()
signal.setitimer(signal.ITIMER_REAL, 0)
gc.collect()
print(next(counts['signal']), next(counts['final']))
"""
    )
    events, finished = run_agent(script, python=python)
    assert ("", 0) == (finished.stderr, finished.returncode)
    steps = collections.defaultdict(list)
    for event in of_kind(events, "metric"):
        steps[event["name"]].append(event["step"])
    for name in ("t0", "t1", "t2", "t3", "main"):
        assert list(range(8000)) == sorted(steps[name])
    signals, finals = map(int, finished.stdout.split())
    assert (list(range(signals)), list(range(finals))) == (sorted(steps["signal"]), sorted(steps["final"]))
    assert [] == of_kind(events, "gap")


def test_a_forked_child_has_a_file_of_its_own(run_agent, python, tmp_path):
    script = """
import os
for step in range(3): agent.metric('loss', step, 1.0, 'float32', 0.0)
if os.fork() == 0:
    for step in range(5): agent.metric('acc', step, 1.0, 'float32', 0.0)
    raise SystemExit(0)
os.wait()
for step in range(3, 6): agent.metric('loss', step, 1.0, 'float32', 0.0)
"""
    events, _ = run_agent(AGENT_OBJECT + script, python=python)
    assert [32 * 6, 32 * 7] == files(tmp_path / "events.0")[0]
    assert list(range(6)) == [event["step"] for event in of_kind(events, "metric", "main")]
    assert list(range(5)) == [event["step"] for event in of_kind(events, "metric", "main/fork.1")]


def test_later_points_than_the_end_are_lines_of_the_log(run_agent, python, tmp_path):
    script = """
agent.metric('loss', 0, 1.0, 'float32', 0.0)
agent.end()
agent.metric('loss', 1, 1.0, 'float32', 0.0); agent.metric('acc', 0, 1.0, 'float32', 0.0)
"""
    events, finished = run_agent(AGENT_OBJECT + script, python=python)
    sizes, kinds = files(tmp_path / "events.0")
    assert (0, [64], 2) == (finished.returncode, sizes, kinds["metric"])
    assert {("loss", 0), ("loss", 1), ("acc", 0)} == {(e["name"], e["step"]) for e in of_kind(events, "metric")}


def test_a_name_of_the_file_that_is_taken_costs_nothing(run_agent, python, tmp_path):
    script = """
from pathlib import Path
Path(agent._log.stem + '.points').touch()
for step in range(1000): agent.metric('loss', step, 1.0, 'float32', 0.0)
"""
    events, finished = run_agent(AGENT_OBJECT + script, python=python)
    assert ("", 0) == (finished.stderr, finished.returncode)
    assert [0] == files(tmp_path / "events.0")[0]
    assert (1000, 1000) == (files(tmp_path / "events.0")[1]["metric"], len(of_kind(events, "metric")))


def test_a_number_that_is_none_is_lost_alone(run_agent, python):
    script = "for value in (1.0, None, 3.0): agent.metric('loss', int(value or 2), value, 'float32', 0.0)"
    events, finished = run_agent(AGENT_OBJECT + script, python=python)
    assert ("", 0) == (finished.stderr, finished.returncode)
    assert [1, 3] == [event["step"] for event in of_kind(events, "metric")]


def test_killed_at_any_moment_what_is_there_is_whole(run_agent, python):
    script = """
import os, threading, time
def kill():
    time.sleep(0.05)
    os.kill(os.getpid(), 9)
threading.Thread(target=kill).start()
for step in range(10**9): agent.metric('loss', step, step / 7, 'float64', 0.0)
"""
    events, finished = run_agent(AGENT_OBJECT + script, python=python)
    assert -signal.SIGKILL == finished.returncode
    points = [(event["step"], float.fromhex(event["value"])) for event in of_kind(events, "metric")]
    assert [(step, step / 7) for step in range(len(points))] == points
    assert len(points) > 100
