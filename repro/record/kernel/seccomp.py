"""Watch by seccomp user notification: no root, nothing compiled, nothing for the calls that are not told.

A filter belongs to a thread and to what that thread starts. So a thread of ours puts it on itself, the watcher is
forked from another, and then the first one starts the command. It stays until the end: a program that asks to be told
when its parent dies (`PR_SET_PDEATHSIG`) means the thread that started it.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from repro.errors import UsageError
from repro.record.kernel import SCHEMA, holder, notify
from repro.record.kernel.journal import FLUSH_SECONDS
from repro.record.kernel.programs import is_privileged
from repro.record.kernel.tasks import identity
from repro.record.streams import Wanted
from repro.record.supervise import Job, Launcher, find_command, start_local

if TYPE_CHECKING:
    from repro.record.kernel.lender import Loan

_CAP_SYS_PTRACE, _CAP_SYS_ADMIN = 19, 21
_NEEDS_ITS_OWN: Final = ("apptainer", "singularity", "starter-suid")
_ONE_LISTENER = "something watches this process already (another recording, a sandbox or a container), and only one can"


def available(argv: tuple[str, ...], cwd: Path, env: Mapping[str, str]) -> str | None:
    """Return why this command cannot be watched in this way here, or `None` if it can.

    A filter is put on a thread that then ends, so the answer is the kernel's own.
    """
    if reason := notify.unsupported():
        return reason
    if _yama_scope() > 1 and not _may(_CAP_SYS_PTRACE):
        return "kernel.yama.ptrace_scope keeps even a process from looking at those that it has started"
    found = _try()
    if isinstance(found, OSError):
        if found.errno == errno.EBUSY:
            return _ONE_LISTENER
        return f"the kernel refuses the filter: {found.strerror}"
    return _refused_by_command(argv, cwd, env, takes_privileges=found.took_privileges)


def _try() -> notify.Installed | OSError:
    found: list[notify.Installed | OSError] = []

    def install() -> None:
        try:
            installed = notify.install()
            os.close(installed.listener_fd)
            found.append(installed)
        except OSError as error:
            found.append(error)

    thread = threading.Thread(target=install, name="try-filter")
    thread.start()
    thread.join()
    return found[0] if found else OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def _refused_by_command(
    argv: tuple[str, ...], cwd: Path, env: Mapping[str, str], *, takes_privileges: bool
) -> str | None:
    try:
        program = Path(find_command(argv, cwd, env)).resolve()
        state = program.stat()
    except (UsageError, OSError):
        return None  # starting it will say so
    name = program.name
    if name in _NEEDS_ITS_OWN:
        return f"{name} sets up a container, which it may not be able to below a filter"
    if takes_privileges and is_privileged(str(program), state):
        return f"{name} gives privileges, which it could not below a filter that was installed without them"
    return None


def _yama_scope() -> int:
    """Return who may look into a process: 1, only its ancestors; more, only the administrator (Yama.rst)."""
    try:
        return int(Path("/proc/sys/kernel/yama/ptrace_scope").read_text())
    except (OSError, ValueError):
        return 0


def _may(capability: int) -> bool:
    status = Path("/proc/thread-self/status").read_text()
    effective = status.partition("\nCapEff:")[2].partition("\n")[0]
    return bool(int(effective.strip() or "0", 16) >> capability & 1)


class Seccomp:
    """One command to be watched; a `Watch`.

    Args:
        events: The run's folder for event logs.
        launcher: Starts the command as a child of the thread that calls it.
    """

    layer = "seccomp"

    def __init__(self, events: Path, launcher: Launcher = start_local) -> None:
        self._events = events.absolute()
        self._launcher = launcher
        self._over = threading.Event()
        self._done = threading.Event()

    def start(self, argv: tuple[str, ...], cwd: Path, env: Mapping[str, str], streams: Wanted) -> Job:
        """Start the command under the watch; unwatched, and with a gap, where that fails.

        Raises:
            UsageError: There is no such command, or it cannot be executed.
        """
        if not _may(_CAP_SYS_ADMIN):
            _load_nvidia_uvm()
        launch = partial(self._launcher, argv, cwd, env, streams)
        starter = _Starter(launch, self._over)
        try:
            held = self._hold(starter)
        except OSError as error:
            self._say(f"the run was not watched: {error.strerror}")
            self._done.set()
            return launch()
        threading.Thread(target=self._guard, args=(held, starter.listener_fd), name="guard", daemon=True).start()
        return starter.start()

    def finish(self, timeout_seconds: float) -> None:
        """Wait until no watched process is left, and the log is complete."""
        self._over.set()
        if not self._done.wait(max(timeout_seconds, 2 * FLUSH_SECONDS)):
            for name in self._survivors() or ("processes",):
                self._say("it went on after the command had ended: what it did later was not seen", subject=name)

    def _hold(self, starter: _Starter) -> holder.Held:
        if not self._must_lend():
            return starter.hold(os.fsencode(self._events), None)
        from repro.record.kernel import lender

        ours, loan = lender.open_pair()
        try:
            held = starter.hold(os.fsencode(self._events), loan)
        except OSError:
            ours.close()
            raise
        finally:
            lender.close(loan)
        threading.Thread(target=lender.lend, args=(ours,), name="lender", daemon=True).start()
        return held

    @staticmethod
    def _must_lend() -> bool:
        return _yama_scope() > 0 and not _may(_CAP_SYS_PTRACE)

    def _guard(self, held: holder.Held, listener_fd: int) -> None:
        """Wait for the end; should watcher and holder be killed, answer in their place."""
        if os.read(held.done_fd, 1) != holder.DONE:
            self._say("its processes were killed: what came later was not seen", subject="the kernel layer")
            holder.answer_blindly(listener_fd)
        with suppress(OSError):
            os.waitpid(held.pid, 0)
        os.close(held.done_fd)
        os.close(listener_fd)
        self._done.set()

    def _survivors(self) -> tuple[str, ...]:
        from repro.record.kernel import log

        found = log.read(self._events)
        alive = [each for each in (found.processes if found else {}).values() if _is_filtered(each.pid)]
        return tuple(sorted({identity(each.pid)[0] or each.name for each in alive}))

    def _say(self, reason: str, subject: str = "the run") -> None:
        with suppress(OSError):
            log_fd = holder.open_log(os.fsencode(self._events))
            if os.fstat(log_fd).st_size == 0:
                begun = {"layer": self.layer, "no_new_privs": False, "at": time.time()}
                holder.write(log_fd, {"event": "layer", "schema": SCHEMA, **begun})
            holder.write(log_fd, {"event": "gap", "subject": subject, "reason": reason})
            os.close(log_fd)


class _Starter:
    """The thread that is watched, and starts the command.

    It opens no file between putting the filter on and the watcher's first answer: it would wait for ever.
    """

    def __init__(self, launch: Callable[[], Job], over: threading.Event) -> None:
        self.listener_fd = -1
        self._launch = launch
        self._over = over
        self._installed: notify.Installed | None = None
        self._job: Job | None = None
        self._error: BaseException | None = None
        self._filtered, self._watched, self._started = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="starter", daemon=True)

    def hold(self, events: bytes, loan: Loan | None) -> holder.Held:
        """Put the filter on, and have it watched.

        Raises:
            OSError: The kernel refuses, or the watcher could not be forked.
        """
        self._thread.start()
        self._filtered.wait()
        if self._installed is None:
            raise self._error or OSError(errno.ENOSYS, "there is no filter")
        self.listener_fd = self._installed.listener_fd
        try:
            return holder.begin(self._installed, events, loan)
        except OSError as error:
            self._error = error
            self._watched.set()  # the thread ends: its filter has no listener
            self._thread.join()
            os.close(self.listener_fd)
            raise

    def start(self) -> Job:
        """Start the command, now that it is watched."""
        self._watched.set()
        self._started.wait()
        if self._job is None:
            raise self._error or RuntimeError("the launcher returned no job")
        return self._job

    def _run(self) -> None:
        try:
            self._installed = notify.install()
        except OSError as error:
            self._error = error
        self._filtered.set()
        if self._installed is None:
            return
        self._watched.wait()
        if self._error is not None:
            return
        try:
            self._job = self._launch()
        except BaseException as error:  # noqa: BLE001 - raised in the thread that asked
            self._error = error
        self._started.set()
        if self._job is not None:
            self._over.wait()


def _is_filtered(pid: int) -> bool:
    try:
        return "\nSeccomp:\t2" in Path(f"/proc/{pid}/status").read_text()
    except (OSError, ValueError):
        return False


def _load_nvidia_uvm() -> None:
    """Have the driver's memory device made now: CUDA has a setuid program do it, which could not below the filter."""
    if not Path("/proc/driver/nvidia").is_dir() or Path("/dev/nvidia-uvm").exists():
        return
    if program := shutil.which("nvidia-modprobe"):
        with suppress(OSError, subprocess.SubprocessError):
            subprocess.run([program, "-u", "-c=0"], check=False, capture_output=True, timeout=10)
