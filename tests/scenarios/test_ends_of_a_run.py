"""However a command ends, its run is sealed, its status is true, and its own exit status is passed on."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPTS = {
    "raises": ("raise ValueError('no')", 1, "failed", 1, None),
    "exits": ("import sys; sys.exit(3)", 3, "failed", 3, None),
    "is killed": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137, "killed", None, "SIGKILL"),
    "is terminated": ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", 143, "killed", None, "SIGTERM"),
    "ends well": ("print('done')", 0, "completed", 0, None),
}


@pytest.mark.parametrize("how", SCRIPTS)
def test_a_command_that(how: str, repro, record, tmp_path: Path) -> None:
    text, exit_status, status, exit_code, signal_name = SCRIPTS[how]
    (tmp_path / "job.py").write_text(text)
    recorded = record([sys.executable, "job.py"], cwd=tmp_path)
    assert exit_status == recorded.exit_status
    run = repro("show", "@last", "--json", cwd=tmp_path).answer["run"]
    assert (status, exit_code, signal_name) == (run["status"], run["exit_code"], run["signal"])
    assert repro("verify", "@last", cwd=tmp_path).exit_status == 0


def test_a_run_that_cannot_be_sealed_passes_its_own_status_on(repro, record, repro_home: Path, tmp_path: Path) -> None:
    (repro_home / "keys").mkdir(parents=True, mode=0o700)
    (repro_home / "keys" / "signing.pem").write_text("not a key")
    recorded = record(["sh", "-c", "echo hello; exit 3"], cwd=tmp_path)
    assert (3, "hello\n") == (recorded.exit_status, recorded.out)
    assert "was not sealed" in recorded.err
    assert "unsealed" in repro("runs", cwd=tmp_path).out


WAITING = """
import signal, sys, time
seen = []
def note(number, frame):
    seen.append(number)
    print("caught", number, flush=True)
signal.signal(signal.SIGINT, note)
signal.signal(signal.SIGTERM, note)
print("ready", flush=True)
deadline = time.monotonic() + 20
while not seen and time.monotonic() < deadline:
    time.sleep(0.02)
time.sleep(0.5)
sys.exit(10 + len(seen))
"""


def test_sigterm_is_relayed_once(repro_home: Path, tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(WAITING)
    argv = [sys.executable, "-m", "repro", "record", "--lock-timeout", "0", "--", sys.executable, "job.py"]
    with subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "ready\n" == process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert f"caught {signal.SIGTERM.value}\n" == process.stdout.read()
        assert 11 == process.wait(timeout=60)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_an_interrupted_run_read_and_wrote_has_digests(
    number: int, repro, repro_home: Path, tmp_path: Path
) -> None:
    (tmp_path / "in.txt").write_text("read")
    (tmp_path / "job.py").write_text("open('in.txt').read()\nopen('best.pt', 'w').write('kept')\n" + WAITING)
    argv = [sys.executable, "-m", "repro", "record", "--lock-timeout", "0", "--", sys.executable, "job.py"]
    with subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "ready\n" == process.stdout.readline()
        process.send_signal(number)
        assert 11 == process.wait(timeout=60)
    shown = repro("show", "@last", "--json", cwd=tmp_path).answer
    files = {(file["role"], file["path"]): file["digest"] for file in shown["data_files"]}
    assert files["input", "in.txt"]
    assert files["output", "best.pt"]
    assert [] == [gap for gap in shown["gaps"] if gap["topic"] == "data"]


def test_ctrl_c_on_a_terminal_reaches_the_command_once(repro_home: Path, tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(WAITING)
    argv = [sys.executable, "-m", "repro", "record", "--lock-timeout", "0", "--", sys.executable, "job.py"]
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.execv(sys.executable, argv)
    shown = _read_until(terminal, "ready")
    os.write(terminal, b"\x03")
    shown += _read_until(terminal, "sealed")
    _, wait_status = os.waitpid(child, 0)
    os.close(terminal)
    assert shown.count("caught") == 1, shown
    assert 11 == os.waitstatus_to_exitcode(wait_status)


def _read_until(terminal: int, word: str) -> str:
    text, deadline = "", time.monotonic() + 60
    while word not in text and time.monotonic() < deadline:
        try:
            text += os.read(terminal, 4096).decode(errors="replace")
        except OSError:  # the other end is closed
            break
    assert word in text, text
    return text


@pytest.mark.torch
def test_a_training_that_is_killed_keeps_every_step_it_made(repro, record, project: Path) -> None:
    script = (project / "train.py").read_text()
    killed = script.replace(
        "    optimizer.step()\n", "    optimizer.step()\n    if step == 8: import os; os.kill(os.getpid(), 9)\n"
    )
    (project / "train.py").write_text(killed)
    assert 137 == record([sys.executable, "train.py"], cwd=project).exit_status
    record_ = repro("show", "@last", "--json", cwd=project).answer
    assert "killed" == record_["run"]["status"]
    assert list(range(9)) == [m["step"] for m in record_["metrics"] if m["name"] == "loss"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_replay_that_is_ended_early_leaves_no_temporary_folder(
    number: int, record, repro_home: Path, tmp_path: Path
) -> None:
    project, temporary = tmp_path / "project", tmp_path / "temporary"
    project.mkdir()
    temporary.mkdir()
    (project / "job.py").write_text("print('done')")
    record([sys.executable, "job.py"], cwd=project)
    argv = [sys.executable, "-m", "repro", "replay", "--executor", "host", "@last"]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with subprocess.Popen(argv, cwd=project, env=environment, stderr=subprocess.DEVNULL) as process:
        while not any(temporary.glob("repro-*/*")) and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(number)
        assert 128 + number == process.wait(timeout=60)
    assert [] == list(temporary.iterdir())
