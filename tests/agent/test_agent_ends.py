"""How children end is told by their parents, whichever way they wait; and which attempt a rank belongs to."""

import pytest
from event_logs import of_kind

SUBPROCESSES = """
import os, subprocess, sys
def start(code):
    return subprocess.Popen([sys.executable, "-c", code])
for way in ("wait", "poll", "communicate"):
    child = start("import sys; sys.exit(%d)" % len(way))
    if way == "poll":
        while child.poll() is None: pass
    else:
        getattr(child, way)()
    assert child.returncode == len(way), child.returncode
killed = start("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
assert -9 == killed.wait() == killed.wait() == killed.poll()
subprocess.run(["sh", "-c", "exit 7"])
"""
MULTIPROCESSING = """
import multiprocessing, os, signal, sys
def work(way):
    if way == "killed": os.kill(os.getpid(), signal.SIGKILL)
    sys.exit(5)
if __name__ == "__main__":
    context = multiprocessing.get_context("{method}")
    for way in ("killed", "left"):
        child = context.Process(target=work, args=(way,))
        child.start()
        child.join()
        assert child.exitcode in (-9, 5), child.exitcode
"""
PRINTED = 'import os; print(os.environ["REPRO_PROCESS_KEY"])'


def statuses(events, key="main"):
    return [event["status"] for event in of_kind(events, "exit", key)]


def test_ends_of_subprocesses_are_told_once_each(run_agent, python):
    events, finished = run_agent(SUBPROCESSES, python=python)
    assert ("", 0) == (finished.stderr, finished.returncode)
    assert [4, 4, 11, -9, 7] == statuses(events)
    started = [event["pid"] for event in of_kind(events, "start") if event["process_key"] != "main"]
    assert started == [event["pid"] for event in of_kind(events, "exit")][:4]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_ends_of_multiprocessing_are_told_once_each(run_agent, python, method):
    events, finished = run_agent(MULTIPROCESSING.replace("{method}", method), python=python)
    assert ("", 0) == (finished.stderr, finished.returncode)
    found = [status for status in statuses(events) if status != 0]  # the resource tracker, the fork server
    assert (found[-1], len(found)) == (5, 2)
    assert found[0] == (255 if method == "forkserver" and found[0] == 255 else -9)


@pytest.mark.parametrize(
    ("count", "key"), [(None, "rank1"), ("0", "rank1"), ("2", "rank1@2"), ("-1", "rank1"), ("x", "rank1")]
)
def test_a_rank_of_a_group_that_was_started_again_has_a_key_of_its_own(run_agent, python, count, key):
    variables = {"RANK": "1", **({} if count is None else {"TORCHELASTIC_RESTART_COUNT": count})}
    script = "import os, subprocess, sys\n"
    script += f"subprocess.run([sys.executable, '-c', {PRINTED!r}], env={{**os.environ, **{variables!r}}})"
    events, finished = run_agent(script, python=python)
    assert f"main/{key}" == finished.stdout.strip()
    (start,) = of_kind(events, "start", f"main/{key}")
    assert (2 if "@" in key else 0) == start["attempt"]
