from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from repro.errors import UsageError
from repro.record import signals
from repro.record.supervise import find_command, start_local, supervise

SUPERVISOR = """
import json, os, pathlib, sys
from repro.record import signals
from repro.record.supervise import start_local, supervise
folder = pathlib.Path(sys.argv[1])
with signals.watch(lambda: None) as arrived:
    outcome = supervise(
        lambda wanted: start_local(tuple(sys.argv[2:]), pathlib.Path.cwd(), os.environ, wanted), arrived, folder
    )
(folder / "outcome.json").write_text(json.dumps({
    "returncode": outcome.returncode,
    "relayed": sorted(outcome.relayed),
    "cpu_seconds": outcome.cpu_seconds,
    "peak_memory_bytes": outcome.peak_memory_bytes,
    "stdout": [outcome.stdout.size_bytes, outcome.stdout.kept_bytes, outcome.stdout.cut_off],
    "stderr": [outcome.stderr.size_bytes, outcome.stderr.kept_bytes, outcome.stderr.cut_off],
}))
"""


class Supervisor:
    """A process that supervises a command, so that signals and terminals are real and are not pytest's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, *argv: str, **options) -> subprocess.Popen[bytes]:
        root = str(Path(__file__).parents[3])
        environment = {**os.environ, "PYTHONPATH": root, **options.pop("env", {})}
        command = [sys.executable, "-c", SUPERVISOR, str(self.folder), *argv]
        return subprocess.Popen(command, env=environment, **options)

    def run(self, *argv: str, **options) -> tuple[bytes, bytes]:
        with self.start(*argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as process:
            return process.communicate(timeout=60)

    def outcome(self) -> dict:
        return json.loads((self.folder / "outcome.json").read_text())


@pytest.fixture
def supervisor(tmp_path: Path) -> Supervisor:
    return Supervisor(tmp_path)


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


PYTHON = sys.executable


def test_output_passes_through_byte_for_byte_and_is_kept(supervisor: Supervisor) -> None:
    script = "import os; os.write(1, bytes(range(256)) * 8); os.write(2, b'\\xff\\0err')"
    stdout, stderr = supervisor.run(PYTHON, "-c", script)
    assert (stdout, stderr) == (bytes(range(256)) * 8, b"\xff\0err")
    assert (supervisor.folder / "stdout.stream").read_bytes() == stdout
    assert (supervisor.folder / "stderr.stream").read_bytes() == stderr
    outcome = supervisor.outcome()
    assert outcome["returncode"] == 0
    assert outcome["cpu_seconds"] > 0
    assert outcome["peak_memory_bytes"] > 1_000_000


def test_large_output_on_both_streams_does_not_block(supervisor: Supervisor) -> None:
    stdout, stderr = supervisor.run("bash", "-c", "head -c 30000000 /dev/zero >&2 & head -c 70000000 /dev/zero; wait")
    assert (len(stdout), len(stderr)) == (70_000_000, 30_000_000)
    assert supervisor.outcome()["stdout"] == [70_000_000, 64 * 1024 * 1024, False]


@pytest.mark.parametrize(
    ("script", "expected"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", -9), ("kill -TERM $$", -15)]
)
def test_the_exit_status_is_the_commands_own(supervisor: Supervisor, script: str, expected: int) -> None:
    supervisor.run("bash", "-c", script)
    assert supervisor.outcome()["returncode"] == expected
    assert supervisor.outcome()["relayed"] == []


def test_standard_input_umask_limits_and_descriptors_are_inherited(supervisor: Supervisor, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("fed\n")
    (tmp_path / "three").write_text("three\n")
    descriptor = os.open(tmp_path / "three", os.O_RDONLY)
    before = os.umask(0o027)
    try:
        with (tmp_path / "in").open() as given:
            script = f"cat; umask; cat <&{descriptor}; pwd"
            stdout, _ = supervisor.run("bash", "-c", script, stdin=given, pass_fds=(descriptor,), cwd=tmp_path)
    finally:
        os.umask(before)
        os.close(descriptor)
    assert stdout.decode().splitlines() == ["fed", "0027", "three", str(tmp_path)]


def test_a_command_that_closes_its_output_runs_on(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.run("bash", "-c", f"exec >&- 2>&-; sleep 0.3; touch {tmp_path}/late; exit 4")
    assert supervisor.outcome()["returncode"] == 4
    assert (tmp_path / "late").exists()


def test_a_grandchild_that_holds_the_pipe_is_not_waited_for(supervisor: Supervisor) -> None:
    started = time.monotonic()
    process = supervisor.start("bash", "-c", "sleep 30 & echo $!", stdout=subprocess.PIPE)
    stdout, _ = process.communicate(timeout=25)
    os.kill(int(stdout), signal.SIGKILL)
    assert time.monotonic() - started < 25
    assert supervisor.outcome()["stdout"] == [len(stdout), len(stdout), True]


def test_what_was_written_before_the_end_arrives_even_at_a_slow_reader(supervisor: Supervisor) -> None:
    with supervisor.start(PYTHON, "-c", "print('x' * 150_000)", stdout=subprocess.PIPE) as process:
        time.sleep(1.0)
        stdout, _ = process.communicate(timeout=30)
    assert len(stdout) == 150_001


def test_a_reader_that_goes_away_ends_the_command_as_if_it_were_alone(supervisor: Supervisor) -> None:
    with supervisor.start("yes", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(10)
        process.stdout.close()
        process.wait(30)
    assert supervisor.outcome()["returncode"] == -signal.SIGPIPE


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_sent_to_us_is_relayed_once(supervisor: Supervisor, number: int) -> None:
    script = f"""
import signal, sys, time
seen = []
signal.signal({int(number)}, lambda n, f: seen.append(n))
print("ready", flush=True)
while not seen: time.sleep(0.01)
time.sleep(0.3)
print(len(seen))
"""
    with supervisor.start(PYTHON, "-c", script, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.stdout.read() == b"1\n"
    assert supervisor.outcome()["relayed"] == [number]


def test_a_signal_is_relayed_while_our_reader_is_stuck(supervisor: Supervisor) -> None:
    with supervisor.start(
        "bash", "-c", "echo up >&2; exec yes", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stderr.readline() == b"up\n"
        time.sleep(0.3)  # nobody reads: our own pipe is full by now
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
        process.wait(30)
    assert (supervisor.outcome()["returncode"], supervisor.outcome()["relayed"]) == (-15, [15])


def test_an_ignored_signal_stays_ignored(supervisor: Supervisor) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with supervisor.start(
        "bash", "-c", "echo up; sleep 0.5; exit 5", stdout=subprocess.PIPE, preexec_fn=ignore
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGHUP)
    assert (supervisor.outcome()["returncode"], supervisor.outcome()["relayed"]) == (5, [])


def test_nothing_is_left_behind_in_a_thread_that_is_not_the_first(tmp_path: Path) -> None:
    codes: list[int] = []

    def work() -> None:
        with signals.watch(lambda: None) as arrived:
            start = lambda wanted: start_local(("bash", "-c", "exit 6"), tmp_path, os.environ, wanted)  # noqa: E731
            codes.append(supervise(start, arrived, tmp_path).returncode)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(20)
    assert codes == [6]


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in signals.RELAYED]
    with signals.watch(lambda: None):
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert [signal.getsignal(number) for number in signals.RELAYED] == before


def test_a_signal_that_asks_us_to_end_is_told_at_once() -> None:
    told: list[str] = []
    with signals.watch(lambda: told.append("now")) as arrived:
        os.kill(os.getpid(), signal.SIGTERM)
        wait_for(lambda: told)
        assert (told, arrived.read(), arrived.read()) == (["now"], [signal.SIGTERM], [])


class Terminal:
    """A terminal with a shell's job control: the supervisor is the leader of its foreground group."""

    def __init__(self, supervisor: Supervisor, *argv: str) -> None:
        self.output = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["PYTHONPATH"] = str(Path(__file__).parents[3])
            # Like a shell: the job has a process group of its own, in the foreground.
            job = os.fork()
            if job == 0:
                os.setpgid(0, 0)
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
                os.tcsetpgrp(0, os.getpgrp())
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTTOU})
                os.execv(sys.executable, [sys.executable, "-c", SUPERVISOR, str(supervisor.folder), *argv])
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            while True:
                _, status = os.waitpid(job, os.WUNTRACED)
                if not os.WIFSTOPPED(status):
                    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
                os.write(1, b"[stopped]\n")
                os.tcsetpgrp(0, os.getpgrp())
                os.read(0, 100)  # "fg" and a newline
                os.tcsetpgrp(0, job)
                os.killpg(job, signal.SIGCONT)

    def read_until(self, text: bytes, seconds: float = 30.0) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.output:
            ready, _, _ = select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, self.output
            self.output += os.read(self.fd, 65536)

    def type(self, keys: bytes) -> None:
        os.write(self.fd, keys)

    def wait(self) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(self.fd, 65536):
                self.output += data
        os.waitpid(self.pid, 0)


@contextlib.contextmanager
def terminal(supervisor: Supervisor, *argv: str) -> Iterator[Terminal]:
    opened = Terminal(supervisor, *argv)
    try:
        yield opened
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(opened.pid, signal.SIGKILL)
        os.close(opened.fd)


INTERRUPTIBLE = """
import signal, sys, time
seen = []
signal.signal(signal.SIGINT, lambda n, f: seen.append(n))
print("ready", sys.stdout.isatty(), sys.stderr.isatty(), flush=True)
while not seen: time.sleep(0.01)
time.sleep(0.3)
print("interrupted", len(seen), flush=True)
"""


def test_ctrl_c_reaches_the_command_once_and_never_us(supervisor: Supervisor) -> None:
    with terminal(supervisor, PYTHON, "-c", INTERRUPTIBLE) as screen:
        screen.read_until(b"ready True True")
        screen.type(b"\x03")
        screen.read_until(b"interrupted 1")
        screen.wait()
    assert (supervisor.outcome()["returncode"], supervisor.outcome()["relayed"]) == (0, [])
    assert b"\r\r" not in screen.output
    assert (supervisor.folder / "stdout.stream").read_bytes() == b"ready True True\ninterrupted 1\n"


def test_ctrl_c_ends_a_command_that_does_not_mind_it(supervisor: Supervisor) -> None:
    with terminal(supervisor, "bash", "-c", "echo ready; exec sleep 60") as screen:
        screen.read_until(b"ready")
        screen.type(b"\x03")
        screen.wait()
    assert (supervisor.outcome()["returncode"], supervisor.outcome()["relayed"]) == (-2, [])


def test_the_command_reads_the_terminal(supervisor: Supervisor) -> None:
    with terminal(supervisor, "bash", "-c", 'read -p "name? " name; echo "hello $name"') as screen:
        screen.read_until(b"name? ")
        screen.type(b"ada\n")
        screen.read_until(b"hello ada")
        screen.wait()
    assert supervisor.outcome()["returncode"] == 0


def test_ctrl_z_stops_us_with_the_command_and_fg_goes_on(supervisor: Supervisor) -> None:
    script = 'echo ready; read line; echo "got $line"'
    with terminal(supervisor, "bash", "-c", script) as screen:
        screen.read_until(b"ready")
        time.sleep(0.2)
        screen.type(b"\x1a")
        screen.read_until(b"[stopped]")
        screen.type(b"fg\n")
        time.sleep(0.5)
        screen.type(b"more\n")
        screen.read_until(b"got more")
        screen.wait()
    assert supervisor.outcome()["returncode"] == 0


def test_the_size_of_the_terminal_is_followed(supervisor: Supervisor) -> None:
    import fcntl
    import struct
    import termios

    script = """
import os, signal, time
signal.signal(signal.SIGWINCH, lambda n, f: None)
print("size", os.get_terminal_size(1).columns, flush=True)
while os.get_terminal_size(1).columns != 99: time.sleep(0.02)
print("size", os.get_terminal_size(1).columns, flush=True)
"""
    with terminal(supervisor, PYTHON, "-c", script) as screen:
        screen.read_until(b"size ")
        fcntl.ioctl(screen.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 99, 0, 0))
        screen.read_until(b"size 99")
        screen.wait()


def test_a_pipeline_leaves_the_terminal_to_the_pager_until_the_command_asks(supervisor: Supervisor) -> None:
    """`repro record -- cmd | pager`: the terminal stays with the pipeline; the command gets it when it asks."""
    root = Path(__file__).parents[3]
    argv = [str(supervisor.folder), "bash", "-c", "read line < /dev/tty; echo got $line >&2"]
    inner = f"import sys; sys.argv[1:] = {argv!r}\n"
    (supervisor.folder / "inner.py").write_text(inner + SUPERVISOR)
    pipeline = f"PYTHONPATH={root} {PYTHON} {supervisor.folder}/inner.py | cat"
    pid, fd = pty.fork()
    if pid == 0:
        os.execvp("bash", ["bash", "-c", pipeline])
    os.write(fd, b"typed\n")
    output = b""
    while b"got typed" not in output:
        ready, _, _ = select.select([fd], [], [], 30)
        assert ready, output
        output += os.read(fd, 4096)
    os.waitpid(pid, 0)
    os.close(fd)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ((), "there is no command"),
        (("",), "there is no command"),
        (("no-such-program",), "command not found: no-such-program"),
        (("./missing.sh",), "command not found: ./missing.sh"),
        (("./plain.txt",), "./plain.txt is not executable"),
        (("./folder",), "./folder is not executable"),
    ],
)
def test_a_command_that_cannot_be_found_is_a_usage_error(tmp_path: Path, argv, message: str) -> None:
    (tmp_path / "plain.txt").write_text("x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match=message) as caught:
        find_command(argv, tmp_path, os.environ)
    assert caught.value.hint


def test_a_script_without_a_first_line_cannot_be_started(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("echo hi\n")
    script.chmod(0o755)
    with signals.watch(lambda: None) as arrived, pytest.raises(UsageError, match="could not be started: Exec format"):
        supervise(lambda wanted: start_local(("./script",), tmp_path, os.environ, wanted), arrived, tmp_path)


def test_a_program_is_found_on_the_commands_own_path(tmp_path: Path) -> None:
    tool = tmp_path / "bin" / "tool"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    assert find_command(("tool",), tmp_path, {"PATH": "/nowhere:bin"}) == str(tool)
