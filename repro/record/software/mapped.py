"""Which files the processes of a run have mapped as code, seen from outside through `/proc`.

The agent tells it at the end of each Python process; this is for the processes that it does not reach, or that are
killed. The format is that of proc_pid_maps(5).
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

_FIRST_LOOK_SECONDS: Final = 0.2
_SLOWEST_LOOK_SECONDS: Final = 5.0
_MARK: Final = b"REPRO_EVENTS="
_MOST_PROCESSES: Final = 1000
"""That are looked at each time: a run with more of them has the same libraries many times over."""


def code_of(pid: int, proc: Path = Path("/proc")) -> frozenset[bytes]:
    """Return the files behind the executable mappings of a process; none if it is gone or not ours to look at."""
    try:
        text = (proc / str(pid) / "maps").read_bytes()
    except OSError:
        return frozenset()
    fields = (line.split(None, 5) for line in text.split(b"\n"))
    return frozenset(
        each[5].replace(b"\\012", b"\n")
        for each in fields
        if len(each) == 6 and b"x" in each[1] and each[4] != b"0" and each[5][:1] == b"/"
    )


def processes_of_run(recorder: int, proc: Path = Path("/proc")) -> Iterator[int]:
    """Return the processes of the run: those below the recorder that were started with the agent's variables.

    What the recorder starts for itself, such as git, has none of these.
    """
    waiting = [(pid, False) for pid in _children(recorder, proc)]
    for _ in range(_MOST_PROCESSES):
        if not waiting:
            return
        pid, known = waiting.pop()
        if known := known or _is_marked(pid, proc):
            yield pid
        waiting += [(child, known) for child in _children(pid, proc)]


def _children(pid: int, proc: Path) -> list[int]:
    found: list[int] = []
    try:
        for task in (proc / str(pid) / "task").iterdir():
            found += map(int, (task / "children").read_bytes().split())
    except (OSError, ValueError):
        pass  # it is gone, or the kernel was built without CONFIG_PROC_CHILDREN
    return found


def _is_marked(pid: int, proc: Path) -> bool:
    try:
        return any(entry.startswith(_MARK) for entry in (proc / str(pid) / "environ").read_bytes().split(b"\0"))
    except OSError:
        return False


class Watcher:
    """Looks every few seconds, in a thread of its own at the lowest priority, until it is stopped.

    Args:
        found: Called in that thread with the files that were not seen before; what it raises ends the watch.
    """

    def __init__(self, found: Callable[[frozenset[bytes]], None]) -> None:
        self.seen: set[bytes] = set()
        self.error: Exception | None = None
        self._found = found
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mapped", daemon=True)

    def start(self) -> None:
        """Start looking."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, and wait for a look that is going on."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        # On Linux a thread has a niceness of its own: hashing a gigabyte must not take a core from the training.
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        pause_seconds = _FIRST_LOOK_SECONDS
        try:
            while not self._stop.wait(pause_seconds):
                self.look()
                pause_seconds = min(pause_seconds * 1.5, _SLOWEST_LOOK_SECONDS)
        except Exception as error:  # noqa: BLE001 - told as a gap by whoever stops it
            self.error = error

    def look(self) -> None:
        """Look once, in the calling thread."""
        now = frozenset[bytes]().union(*(code_of(pid) for pid in processes_of_run(os.getpid())))
        if new := now - self.seen:
            self.seen |= new
            self._found(new)
