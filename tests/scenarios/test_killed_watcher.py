"""The watch is killed, in part or whole, while a job runs: the job must not notice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from repro.evidence.canonical import encode_path
from repro.record.kernel import log, seccomp

ROOT = Path(__file__).resolve().parents[2]
FILES = 400

RECORDER = """
import os, pathlib, sys
from repro.record import signals
from repro.record.kernel import seccomp
from repro.record.supervise import supervise
events, command = pathlib.Path(sys.argv[1]), tuple(sys.argv[2:])
watch = seccomp.Seccomp(events)
with signals.watch(lambda: None) as arrived:
    outcome = supervise(lambda wanted: watch.start(command, pathlib.Path.cwd(), os.environ, wanted), arrived, events)
watch.finish(30)
print("exit", outcome.returncode)
"""

JOB = f"""
import os, sys, time
for number in range({FILES}):
    with open(f"file-{{number}}") as file:
        assert file.read() == str(number)
    open("progress", "w").write(str(number))
    time.sleep(0.002)
open("result", "w").write("finished")
"""


class Recording:
    """A recorder in a process of its own, with a job that reads many files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.events = folder / "events"
        self.events.mkdir()
        self.work = folder / "work"
        self.work.mkdir()
        for number in range(FILES):
            (self.work / f"file-{number}").write_text(str(number))
        self.process = subprocess.Popen(
            [sys.executable, "-c", RECORDER, str(self.events), sys.executable, "-c", JOB],
            cwd=self.work,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def watchers(self) -> list[int]:
        """Return the holder and the watcher: they alone have this name and our log open."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if (entry / "comm").read_text() == "repro-watch\n" and self._writes_log(entry):
                    found.append((int((entry / "stat").read_text().rpartition(") ")[2].split()[19]), int(entry.name)))
            except OSError:
                continue
        return [pid for _, pid in sorted(found)]

    def _writes_log(self, entry: Path) -> bool:
        return any(link.readlink() == self.events / log.NAME for link in (entry / "fd").iterdir())

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, "it never happened"
            time.sleep(0.005)

    def advanced(self) -> bool:
        """Return whether the job has opened a file since this was last asked."""
        try:
            now = (self.work / "progress").read_text()
        except OSError:
            return False
        before, self._before = getattr(self, "_before", ""), now
        return now not in ("", before)

    def result(self) -> str:
        self.until((self.work / "result").exists)
        return (self.work / "result").read_text()

    def found(self) -> log.KernelEvents:
        found = log.read(self.events)
        assert found is not None
        return found

    def missing(self) -> set[int]:
        told = {each.path for each in self.found().opens}
        return {number for number in range(FILES) if f"{encode_path(self.work)}/file-{number}" not in told}


@pytest.fixture
def recording(tmp_path: Path) -> Iterator[Recording]:
    if reason := seccomp.available(("/bin/true",), Path("/"), os.environ):
        pytest.skip(f"seccomp: {reason}")
    recording = Recording(tmp_path)
    recording.until(recording.advanced)
    recording.until(lambda: len(recording.watchers()) == 2)
    yield recording
    recording.process.kill()
    recording.process.communicate()
    recording.until(lambda: not recording.watchers())


def test_a_killed_watcher_is_replaced_and_nothing_is_lost(recording: Recording) -> None:
    for _ in range(5):
        holder, watcher = recording.watchers()
        os.kill(watcher, signal.SIGKILL)
        recording.until(lambda gone=watcher: gone not in recording.watchers() and len(recording.watchers()) == 2)
        recording.until(recording.advanced)
        assert holder in recording.watchers()
    assert recording.process.communicate(timeout=60) == ("exit 0\n", "")
    found = recording.found()
    assert (found.complete, found.restarts, found.gaps) == (True, 5, [])
    assert recording.missing() == set()


def test_a_killed_holder_is_replaced_too(recording: Recording) -> None:
    for _ in range(3):
        holder, _ = recording.watchers()
        os.kill(holder, signal.SIGKILL)
        recording.until(lambda gone=holder: gone not in recording.watchers() and len(recording.watchers()) == 2)
        recording.until(recording.advanced)
    assert recording.process.communicate(timeout=60) == ("exit 0\n", "")
    assert recording.found().complete
    assert recording.missing() == set()


def test_without_watcher_and_holder_the_job_goes_on_and_the_loss_is_a_gap(recording: Recording) -> None:
    for pid in recording.watchers():
        os.kill(pid, signal.SIGSTOP)  # neither can replace the other
    for pid in recording.watchers():
        os.kill(pid, signal.SIGKILL)
    assert recording.process.communicate(timeout=60) == ("exit 0\n", "")
    assert recording.result() == "finished"
    found = recording.found()
    assert not found.complete
    assert [gap.subject for gap in found.gaps] == ["the kernel layer"]


def test_a_killed_recorder_takes_nothing_with_it(recording: Recording) -> None:
    recording.process.kill()
    recording.process.wait()
    assert recording.result() == "finished"
    recording.until(lambda: not recording.watchers())
    assert recording.found().complete
    assert recording.missing() == set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_everyone_ends_the_job_and_not_its_watch(recording: Recording, number: signal.Signals) -> None:
    for pid in recording.watchers():
        os.kill(pid, number)
    recording.process.send_signal(number)
    stdout, _ = recording.process.communicate(timeout=60)
    assert stdout in (f"exit {-number}\n", "exit 1\n")
    assert recording.found().complete
