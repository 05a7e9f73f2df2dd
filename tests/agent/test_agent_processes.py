"""Every Python process of a run has a log and a key that names its role, the same in a recording and its replay."""

import subprocess

import pytest
from event_logs import INJECT, bare_environment, entropy_document, of_kind, read_events


def keys(events):
    return sorted(event["process_key"] for event in of_kind(events, "start"))


def parents(events):
    return {event["process_key"]: event["parent_key"] for event in of_kind(events, "start")}


FORKS = """
import os
for number in range(2):
    if os.fork() == 0:
        if number == 1 and os.fork() == 0: raise SystemExit(0)
        if number == 1: os.wait()
        raise SystemExit(0)
    os.wait()
"""


def test_forks(run_agent, python):
    events, finished = run_agent(FORKS, python=python)
    assert "" == finished.stderr
    assert {
        "main": None,
        "main/fork.1": "main",
        "main/fork.2": "main",
        "main/fork.2/fork.1": "main/fork.2",
    } == parents(events)
    assert [True] == [event["forked"] for event in of_kind(events, "start", "main/fork.1")]
    assert 4 == len(of_kind(events, "end"))


def test_scripts_modules_and_commands(run_agent, python):
    script = """
import subprocess, sys
for argv in (['other.py'], ['-u', './other.py', 'x'], ['-m', 'pkg.mod'], ['-um', 'pkg.mod'], ['-W', 'ignore',
    '-c', 'pass'], ['-X', 'dev', '-bc', 'pass'], ['folder/'], ['--check-hash-based-pycs', 'default', 'other.py']):
    subprocess.run([sys.executable, *argv], check=True)
subprocess.run([sys.executable, '-'], input=b'pass', check=True)
subprocess.run([sys.executable], input=b'pass', check=True)
subprocess.run('exec ' + sys.executable + ' other.py', shell=True, check=True)
"""
    setup = (
        "import os\nfor name in ('pkg', 'folder'): os.makedirs(name, exist_ok=True)\n"
        "for name in ('other.py', 'pkg/__init__.py', 'pkg/mod.py', 'folder/__main__.py'): open(name, 'w').close()\n"
    )
    events, finished = run_agent(setup + script, python=python)
    assert "" == finished.stderr
    assert sorted(
        [
            "main",
            *(
                f"main/{name}"
                for name in (
                    "other.py.1",
                    "other.py.2",
                    "other.py.3",
                    "other.py.4",
                    "pkg.mod.1",
                    "pkg.mod.2",
                    "-c.1",
                    "-c.2",
                    "folder.1",
                    "-.1",
                    "python.1",
                )
            ),
        ]
    ) == keys(events)


def test_ranks(run_agent, python):
    script = """
import os, subprocess, sys
code = 'import subprocess, sys; subprocess.run([sys.executable, "-c", "pass"])'
children = [subprocess.Popen([sys.executable, '-c', code], env=dict(os.environ, RANK=str(r), WORLD_SIZE='2',
    LOCAL_RANK=str(r))) for r in range(2)]
print([child.wait() for child in children])
again = subprocess.run([sys.executable, '-c', 'pass'], env=dict(os.environ, RANK='0'))
"""
    events, _ = run_agent(script, python=python)
    assert ["main", "main/rank0", "main/rank0.2", "main/rank0/-c.1", "main/rank1", "main/rank1/-c.1"] == keys(events)
    assert [(1, 1, 2)] == [
        (event["rank"], event["local_rank"], event["world_size"]) for event in of_kind(events, "start", "main/rank1")
    ]


def test_a_hostile_rank_makes_no_path(run_agent, python, tmp_path):
    events, _ = run_agent(
        (
            "import os; os.environ['RANK'] = '../../../escaped'; import subprocess, sys; "
            "subprocess.run([sys.executable, '-c', 'pass'])"
        ),
        python=python,
    )
    assert ["main", "main/-c.1"] == keys(events)
    assert not (tmp_path / "escaped").exists()


def test_two_interpreters_under_a_shell(tmp_path, python):
    environment = dict(bare_environment(), REPRO_EVENTS=str(tmp_path), PYTHONPATH=str(INJECT))
    (tmp_path / "b.py").touch()
    subprocess.run(
        ["sh", "-c", f"{python} -c pass; {python} {tmp_path}/b.py; {python} {tmp_path}/b.py"],
        env=environment,
        check=True,
    )
    assert {"main": None, "b.py.1": None, "b.py.2": None} == parents(read_events(tmp_path))


def test_claims_are_free_of_races(run_agent):
    script = (
        "import subprocess, sys; "
        "print([p.wait() for p in [subprocess.Popen([sys.executable, '-c', 'pass']) for _ in range(20)]])"
    )
    events, _ = run_agent(script)
    assert sorted(["main", *(f"main/-c.{number}" for number in range(1, 21))]) == keys(events)


TOGETHER = """
import os, subprocess, sys, threading
def start(folder, **options):
    return [subprocess.Popen([sys.executable, folder + '/work.py', str(number)], **options) for number in range(6)]
def wait(children): print([child.wait() for child in children])
for folder in ('a', 'b'):
    os.makedirs(folder, exist_ok=True)
    open(folder + '/work.py', 'w').write('import sys, uuid; print(sys.argv[1], uuid.uuid4())')
wait(start('a') + start('a', env=dict(os.environ, MORE='1')))
os.rename('b/work.py', 'b/other.py')
def start_four(name): wait([subprocess.Popen([sys.executable, name, str(number)]) for number in range(4)])
threads = [threading.Thread(target=start_four, args=(name,)) for name in ('a/work.py', 'b/other.py')]
for thread in threads: thread.start()
for thread in threads: thread.join()
print('REPRO_CLAIMED_KEY' in os.environ)
"""


def test_children_started_together_have_the_keys_of_their_order(run_agent, python):
    recorded, first = run_agent(TOGETHER, python=python)
    replayed, second = run_agent(TOGETHER, python=python, entropy=entropy_document(recorded))
    assert "" == first.stderr == second.stderr
    assert "False\n" == first.stdout[-6:]
    order = {event["process_key"]: event["argv"][-1] for event in of_kind(recorded, "start")}
    numbers = [*range(6), *range(6), *range(4)]
    assert {f"main/work.py.{at}": str(number) for at, number in enumerate(numbers, 1)} == {
        key: number for key, number in order.items() if "work" in key
    }
    assert [str(number) for number in range(4)] == [order[f"main/other.py.{at}"] for at in range(1, 5)]
    assert sorted(first.stdout.splitlines()) == sorted(second.stdout.splitlines())
    assert [] == of_kind(recorded, "gap") + of_kind(replayed, "gap")


def test_a_handed_key_is_for_the_first_that_wakes_with_it(run_agent, python):
    script = """
import os, subprocess, sys
open('python-twice', 'w').write('#!/bin/sh\\n"$0-it" -c pass\\n"$0-it" -c pass\\n')
os.chmod('python-twice', 0o755)
open('python-twice-it', 'w').write('#!/bin/sh\\nexec ' + sys.executable + ' "$@"\\n')
os.chmod('python-twice-it', 0o755)
subprocess.run(['./python-twice', '-c', 'pass'], check=True)
"""
    events, finished = run_agent(script, python=python)
    assert "" == finished.stderr
    assert ["main", "main/-c.1", "main/-c.2"] == keys(events)


def test_starting_a_process_fails_as_it_did(run_agent):
    script = "import subprocess\nsubprocess.run(['python-of-no-kind', 'x.py'])"
    _, watched = run_agent(script)
    _, bare = run_agent(script, agent=False)
    assert bare.stderr == watched.stderr


POOL = """
import multiprocessing, sys, time
from concurrent.futures import ProcessPoolExecutor

def work(number):
    time.sleep(0.05)
    return number * number

if __name__ == '__main__':
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(sys.argv[1])) as pool:
        print(list(pool.map(work, range(4))))
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_process_pools(run_agent, python, method):
    events, finished = run_agent(POOL, python=python, arguments=(method,))
    assert ("[0, 1, 4, 9]\n", "") == (finished.stdout, finished.stderr)
    started = of_kind(events, "start")
    workers = {
        "fork": {"main/fork.1", "main/fork.2"},
        "spawn": {"main/-c.2", "main/-c.3"},  # the first is the resource tracker
        "forkserver": {"main/-c.2/fork.1", "main/-c.2/fork.2"},
    }[method]
    assert workers <= {event["process_key"] for event in started}
    assert workers <= {event["process_key"] for event in of_kind(events, "end")}
    assert [] == of_kind(events, "gap")
    assert len(set(keys(events))) == len(keys(events))


def test_claimed_keys_do_not_reach_grandchildren(run_agent):
    script = """
import multiprocessing, os, subprocess, sys
def work():
    print('REPRO_CLAIMED_KEY' in os.environ, flush=True)
    subprocess.run([sys.executable, '-c', 'pass'])
if __name__ == '__main__':
    child = multiprocessing.get_context('spawn').Process(target=work)
    child.start(), child.join()
    print('REPRO_CLAIMED_KEY' in os.environ)
"""
    events, finished = run_agent(script)
    assert "False\nFalse\n" == finished.stdout
    assert "main/-c.2/-c.1" in keys(events)


def test_exec_is_an_end_and_a_child(run_agent, python):
    script = (
        "import os, sys\ntry: os.execvp('no-such-program', ['no-such-program'])\n"
        "except OSError: pass\nos.execv(sys.executable, [sys.executable, '-c', 'print(1)'])"
    )
    events, finished = run_agent(script, python=python)
    assert "1\n" == finished.stdout
    assert {"main": None, "main/-c.1": "main"} == parents(events)
    assert 1 == len(of_kind(events, "end", "main"))
    assert [python, "-c", "print(1)"] == of_kind(events, "spawn", "main")[-1]["argv"]


def test_a_cleared_environment_is_seen_as_a_spawn(run_agent, python):
    events, _ = run_agent(
        "import subprocess, sys; subprocess.run([sys.executable, '-c', 'pass'], env={})", python=python
    )
    assert ["main"] == keys(events)
    assert [python, "-c", "pass"] == of_kind(events, "spawn")[0]["argv"]


def test_every_way_to_start_a_program(run_agent, python):
    script = """
import os, subprocess
subprocess.run('true', shell=True); subprocess.run(['true']); os.system('true')
os.waitpid(os.posix_spawn('/bin/true', ['true', 'x'], {}), 0)
subprocess.run([b'true', os.fsdecode(b'\\xff')], preexec_fn=lambda: None)
"""
    events, finished = run_agent(script, python=python)
    assert "" == finished.stderr
    assert [
        ["/bin/sh", "-c", "true"],
        ["true"],
        ["sh", "-c", "true"],
        ["true", "x"],
        ["true", "\\udcff"],
    ] == [event["argv"] for event in of_kind(events, "spawn", "main")]


def test_os_exit_leaves_no_goodbye_but_all_events(run_agent, python):
    events, _ = run_agent("import os; open('x', 'w').close(); os._exit(7)", python=python)
    assert [] == of_kind(events, "end")
    assert of_kind(events, "open")[-1]["path"].endswith("/x")


def test_key_survives_claims_that_cannot_be_made(run_agent, python):
    script = (
        "import os, shutil; shutil.rmtree(os.environ['REPRO_EVENTS'] + '/claims'); "
        "open(os.environ['REPRO_EVENTS'] + '/claims', 'w').close()\n"
        "if os.fork() == 0: raise SystemExit\nos.wait()"
    )
    events, finished = run_agent(script, python=python)
    assert "" == finished.stderr
    (child,) = [key for key in keys(events) if key != "main"]
    assert child.startswith("main/fork.pid")


def test_what_a_process_has_mapped_as_code_is_told_at_its_end(run_agent, python):
    events, _ = run_agent("import _ctypes", python=python)
    (paths,) = [event["paths"] for event in events if event["event"] == "mapped"]
    assert sorted(paths) == paths
    assert any("/libc.so" in path or "/ld-musl" in path or "/libc-" in path for path in paths)
    assert any("_ctypes" in path for path in paths)
    assert all(path.startswith("/") for path in paths)


PATHS = """
import os, subprocess, sys
code = "import sys; print([entry for entry in sys.path if 'inject' in entry])"
made_anew = os.pathsep.join(sys.path)
for env in (dict(os.environ, PYTHONPATH=made_anew), {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}):
    print(subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout)
    assert env.get("PYTHONPATH") in (None, made_anew)
os.environ["PYTHONPATH"] = made_anew
print(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
print(os.environ["PYTHONPATH"] == made_anew)
"""


def test_children_with_a_path_of_their_own_find_the_agent(run_agent, python):
    """PyTorch's compiler starts its helpers with `sys.path` as their `PYTHONPATH`, where the agent no longer is."""
    events, finished = run_agent(PATHS, python=python)
    assert (["[]", "[]", "[]", "True"], "") == (finished.stdout.split(), finished.stderr)
    assert ["main", "main/-c.1", "main/-c.2", "main/-c.3"] == keys(events)
