"""strace as the layer that watches: real processes, and lines that are hard to come by."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repro.evidence.canonical import decode_path
from repro.record.kernel import log, strace
from repro.record.kernel.log import KernelEvents

pytestmark = pytest.mark.strace
WATCHER = """
import json, os, pathlib, sys
from repro.record import signals
from repro.record.kernel.strace import Strace
from repro.record.supervise import supervise
folder = pathlib.Path(sys.argv[1])
watch = Strace(folder)
with signals.watch(lambda: None) as arrived:
    outcome = supervise(
        lambda wanted: watch.start(tuple(sys.argv[2:]), pathlib.Path.cwd(), os.environ, wanted), arrived, folder
    )
watch.finish(5.0)
(folder / "outcome.json").write_text(json.dumps([outcome.returncode, sorted(outcome.relayed)]))
"""


class Watcher:
    """A process that supervises a command under strace."""

    def __init__(self, folder: Path) -> None:
        self.events = folder / "events"
        self.events.mkdir()
        (self.events / "canary").touch()
        self.folder = folder / "work"
        self.folder.mkdir()

    def start(self, *argv: str, **options) -> subprocess.Popen[bytes]:
        root = str(Path(__file__).parents[3])
        environment = {**os.environ, "PYTHONPATH": root, "EVENTS": str(self.events)}
        command = [sys.executable, "-c", WATCHER, str(self.events), *argv]
        return subprocess.Popen(command, env=environment, cwd=self.folder, **options)

    def run(self, *argv: str) -> KernelEvents:
        with self.start(*argv) as process:
            process.wait(60)
        return self.seen()

    def seen(self) -> KernelEvents:
        found = log.read(self.events)
        assert found is not None
        return found

    def python(self, script: str) -> KernelEvents:
        return self.run(sys.executable, "-c", script)

    def outcome(self) -> list[Any]:
        return json.loads((self.events / "outcome.json").read_text())

    def opens(self, found: KernelEvents) -> set[tuple[str, str]]:
        prefix = f"{self.folder}/"
        return {(each.path[len(prefix) :], each.mode) for each in found.opens if each.path.startswith(prefix)}


@pytest.fixture
def watcher(tmp_path: Path) -> Watcher:
    return Watcher(tmp_path)


def test_it_is_available_here(tmp_path: Path) -> None:
    assert strace.available(("true",), tmp_path, os.environ) is None


def test_it_is_not_available_where_the_recorder_itself_is_traced() -> None:
    script = "import os, pathlib\nfrom repro.record.kernel import strace\n"
    script += "print(strace.available(('true',), pathlib.Path('/'), os.environ))"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = ["strace", "-f", "-qq", "-e", "trace=none", "-o", os.devnull, sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith("a trial failed: ")


def test_opens_of_all_processes_and_threads(watcher: Watcher) -> None:
    for name in ("read", "both", "append", "cut", "child", "thread", "deep"):
        (watcher.folder / name).write_text("before")
    (watcher.folder / "folder").mkdir()
    found = watcher.python("""
import os, subprocess, threading
open('read').read(); open('both', 'r+'); open('append', 'a'); open('new', 'w'); os.truncate('cut', 1)
try: open('missing')
except OSError: pass
os.close(os.open('folder', os.O_RDONLY)); os.listdir('folder')
subprocess.run(['cat', 'child'])
thread = threading.Thread(target=lambda: open('thread').read()); thread.start(); thread.join()
if os.fork() == 0:
    os.chdir('folder'); open('../deep').read(); os._exit(0)
os.wait(); open('read').read()
""")
    assert watcher.opens(found) == {
        ("read", "read"), ("both", "read"), ("both", "write"), ("append", "write"), ("new", "write"),
        ("cut", "write"), ("child", "read"), ("thread", "read"), ("deep", "read"),
    }  # fmt: skip
    assert (found.layer, found.complete, found.gaps, found.unresolved) == ("strace", True, [], 0)
    about = (watcher.folder / "read").stat()
    (read,) = [each for each in found.opens if each.path == f"{watcher.folder}/read"]
    assert (read.size_bytes, read.mtime_ns, read.ctime_ns, read.inode, read.device) == (
        6, about.st_mtime_ns, about.st_ctime_ns, about.st_ino, about.st_dev,
    )  # fmt: skip
    (new,) = [each for each in found.opens if each.path == f"{watcher.folder}/new"]
    assert not new.existed
    main, cat = found.executions[0].pid, found.executions[1]
    assert (cat.path.rpartition("/")[2], cat.argv, cat.parent) == ("cat", ("cat", "child"), main)
    assert {each.parent for each in found.processes.values()} >= {main}


@pytest.mark.usefixtures("unmeasured_jobs")
def test_changes_and_the_canary(watcher: Watcher) -> None:
    found = watcher.python("""
import os
open(os.environ['EVENTS'] + '/canary').close()
open('a', 'w').close(); os.rename('a', 'b'); os.link('b', 'c'); os.remove('b')
folder = os.open('.', os.O_RDONLY | os.O_DIRECTORY)
os.rename('c', 'd', src_dir_fd=folder, dst_dir_fd=folder)
try: os.remove('nothing')
except OSError: pass
os.mkdir('gone'); os.rmdir('gone')
""")
    here = str(watcher.folder)
    assert [(each.source, each.target) for each in found.renames] == [
        (f"{here}/a", f"{here}/b"), (f"{here}/c", f"{here}/d"),
    ]  # fmt: skip
    assert [(each.source, each.target) for each in found.links] == [(f"{here}/b", f"{here}/c")]
    assert [each.path for each in found.removes] == [f"{here}/b"]
    assert found.canaries == {found.executions[0].pid}


@pytest.mark.parametrize("name", [b"new\nline", b"\xff\\", "é\"'<>".encode(), b"a, b) = 3<x>", b"x" * 255])
def test_odd_names(watcher: Watcher, name: bytes) -> None:
    path = os.fsencode(watcher.folder) + b"/" + name
    with open(path, "wb"):
        pass
    found = watcher.run("cat", os.fsdecode(name))
    assert path in {decode_path(each.path) for each in found.opens}


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", -9), ("kill -TERM $$", -15)]
)
def test_the_exit_status_is_the_commands_own(watcher: Watcher, script: str, status: int) -> None:
    assert watcher.run("bash", "-c", script).complete
    assert watcher.outcome() == [status, []]


def test_the_command_leads_its_own_group_and_has_no_new_descriptors(watcher: Watcher) -> None:
    script = (
        "import os; open('seen', 'w').write(f'{os.getpid() == os.getpgrp()} {sorted(os.listdir(\"/proc/self/fd\"))}')"
    )
    watcher.python(script)
    subprocess.run([sys.executable, "-c", script.replace("'seen'", "'bare'")], cwd=watcher.folder, check=True)
    seen, bare = ((watcher.folder / name).read_text().partition(" ") for name in ("seen", "bare"))
    assert (seen[0], seen[2]) == ("True", bare[2])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_reach_the_command_once(watcher: Watcher, number: int, wait: Callable[..., None]) -> None:
    script = (
        "import signal, time\nseen = []\n"
        f"signal.signal({number:d}, lambda *_: (seen.append(1), open('told', 'a').write('x')))\n"
        "open('ready', 'w').close()\nwhile not seen: time.sleep(0.01)\ntime.sleep(0.2)\nraise SystemExit(7)"
    )
    with watcher.start(sys.executable, "-c", script) as process:
        wait((watcher.folder / "ready").exists)
        process.send_signal(number)
        process.wait(30)
    assert (watcher.outcome(), (watcher.folder / "told").read_text()) == ([7, [number]], "x")


def test_the_command_can_be_stopped_and_continued(watcher: Watcher, wait: Callable[..., None]) -> None:
    script = (
        "import os, time\nopen('pid', 'w').write(str(os.getpid()))\nwhile not os.path.exists('go'): time.sleep(0.01)"
    )
    with watcher.start(sys.executable, "-c", script) as process:
        wait(lambda: (watcher.folder / "pid").exists() and (watcher.folder / "pid").read_text())
        pid = int((watcher.folder / "pid").read_text())
        os.kill(pid, signal.SIGSTOP)
        wait(lambda: Path(f"/proc/{pid}/stat").read_text().split()[2] in "tT")
        os.kill(pid, signal.SIGCONT)
        (watcher.folder / "go").touch()
        process.wait(30)
    assert watcher.outcome()[0] == 0


def test_a_daemon_that_outlives_the_command_is_not_waited_for(watcher: Watcher) -> None:
    found = watcher.run("bash", "-c", "sleep 30 >&- 2>&- & echo $! > pid")
    os.kill(int((watcher.folder / "pid").read_text()), signal.SIGKILL)
    assert (found.complete, watcher.outcome()) == (False, [0, []])


def test_lines_that_are_interrupted_are_joined(tmp_path: Path) -> None:
    reading = strace.Reading(b"/events")
    for line in (
        b'1  10.0 execve("\\x2f\\x61", ["\\x61"], 0x7f /* 1 var */) = 0',
        b"1  10.1 vfork( <unfinished ...>",
        b'2  10.2 openat(AT_FDCWD<\\x2f\\x64>, "\\x69", O_RDONLY|O_CLOEXEC <unfinished ...>',
        b"1  10.3 <... vfork resumed>) = 2",
        b"2  10.4 <... openat resumed>) = 3<\\x2f\\x64\\x2f\\x69>",
        b"2  10.5 +++ exited with 0 +++",
        b'1  10.6 openat(AT_FDCWD<\\x2f\\x64>, "\\x6a", O_RDONLY <unfinished ...>',
        b"1  10.7 +++ killed by SIGKILL +++",
        b"nonsense",
    ):
        reading.take(line)
    (tmp_path / "kernel.log").write_bytes(reading.log())
    found = log.read(tmp_path)
    assert found is not None
    assert [(each.pid, each.path, each.at) for each in found.opens] == [(2, "/d/i", 10.2)]
    assert (found.complete, found.processes[2].parent) == (True, 1)


@pytest.fixture
def wait() -> Callable[..., None]:
    def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it never happened"
            time.sleep(0.01)

    return until
