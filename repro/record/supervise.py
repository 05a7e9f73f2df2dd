"""Run a command as if it had been run alone: the same terminal, signals and exit status, and its output kept.

The command runs in a process group of its own. Where our standard input is a terminal and we are in its foreground, the
command's group takes our place, so Ctrl-C and Ctrl-Z reach it once and never us. A signal sent to us is relayed once.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from repro.errors import UsageError
from repro.record.signals import RELAYED, Signals
from repro.record.streams import Channel, Copier, Wanted, open_channel
from repro.record.terminal import Terminal, in_pipeline

_HEARTBEAT_SECONDS: Final = 1.0
"""For launchers whose end is told neither by a signal nor by a descriptor, and for a terminal that is resized."""


class Job(Protocol):
    """A command that runs somewhere: here, in a container, on a node."""

    stdout_fd: int
    """Where to read its output; the supervisor closes it."""
    stderr_fd: int
    end_fd: int | None
    """Becomes readable when the command has ended, where there is such a thing."""
    process_group: int | None
    """Its process group on this machine, if it can be put in the terminal's foreground."""

    def signal(self, number: int) -> None:
        """Send a signal to the whole of it; nothing happens if it has ended."""
        ...

    def poll(self) -> int | None:
        """Return its exit code, or the negative number of the signal that ended it, or `None` while it runs."""
        ...

    def wait(self) -> int:
        """Wait until it ends, and return what `poll` would."""
        ...

    def stopped_by(self) -> int | None:
        """Return the signal that stopped it (Ctrl-Z) since this was last asked."""
        ...

    def usage(self) -> tuple[float, int]:
        """Return its CPU seconds and its peak memory in bytes, once it has ended."""
        ...


class Launcher(Protocol):
    """How a process is started; executors pass their own."""

    def __call__(self, argv: tuple[str, ...], cwd: Path, env: Mapping[str, str], streams: Wanted) -> Job:
        """Start a command.

        Raises:
            UsageError: There is no such command, or it cannot be executed.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a command ended."""

    returncode: int
    """Its exit code, or the negative number of the signal that ended it."""
    relayed: frozenset[int]
    """Signals that were sent to us and passed on."""
    started_at: float
    """Seconds since the epoch."""
    ended_at: float
    wall_seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    stdout: Copier
    stderr: Copier


class LocalJob:
    """A child process in a process group of its own.

    Peak memory comes from `wait4` and cannot be below our own resident set when the child was started.
    """

    def __init__(self, process: subprocess.Popen[bytes], stdout_fd: int, stderr_fd: int) -> None:
        self.stdout_fd = stdout_fd
        self.stderr_fd = stderr_fd
        self.process_group: int | None = process.pid
        self.end_fd = _pidfd(process.pid)
        self._process = process
        self._stopped_by: int | None = None
        self._usage = (0.0, 0)

    def signal(self, number: int) -> None:
        """Send a signal to the child's process group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def poll(self) -> int | None:
        """Return how the child ended, or `None`."""
        return self._wait(os.WNOHANG | os.WUNTRACED)

    def wait(self) -> int:
        """Wait for the child."""
        while (code := self._wait(0)) is None:
            pass
        return code

    def stopped_by(self) -> int | None:
        """Return the signal that stopped the child since this was last asked."""
        found, self._stopped_by = self._stopped_by, None
        return found

    def usage(self) -> tuple[float, int]:
        """Return CPU seconds and peak memory in bytes of the child and of all descendants that were waited for."""
        return self._usage

    def _wait(self, options: int) -> int | None:
        if self._process.returncode is not None:
            return self._process.returncode
        pid, status, usage = os.wait4(self._process.pid, options)
        if pid == 0:
            return None
        if os.WIFSTOPPED(status):
            self._stopped_by = os.WSTOPSIG(status)
            return None
        self._usage = (usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        if self.end_fd is not None:
            os.close(self.end_fd)
            self.end_fd = None
        return self._process.returncode


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def find_command(argv: tuple[str, ...], cwd: Path, env: Mapping[str, str]) -> str:
    """Return the path of the program that a command line names.

    Raises:
        UsageError: There is no command, it is not found, or it is not executable.
    """
    if not argv or not argv[0]:
        raise UsageError("there is no command to run", hint="give it after two dashes: repro record -- python train.py")
    name = argv[0]
    search = env.get("PATH", os.defpath)
    if os.sep in name:
        path = cwd / name
        if path.is_file() and os.access(path, os.X_OK):
            return str(path)
        if path.exists():
            raise UsageError(
                f"{name} is not executable", hint=f"start it with its interpreter, or run: chmod +x {name}"
            )
    elif found := shutil.which(name, path=os.pathsep.join(str(cwd / part) for part in search.split(os.pathsep))):
        return found
    raise UsageError(
        f"command not found: {name}",
        hint="check its spelling and PATH; a script needs its interpreter: python train.py",
    )


def start_local(argv: tuple[str, ...], cwd: Path, env: Mapping[str, str], streams: Wanted) -> Job:
    """Start a command on this machine, in a process group of its own.

    It inherits all that we have: standard input, umask, limits, open descriptors, ignored signals.

    Raises:
        UsageError: There is no such command, or the system cannot execute it.
    """
    program = find_command(argv, cwd, env)
    stdout, stderr = open_channel(streams.stdout_is_terminal), open_channel(streams.stderr_is_terminal)
    try:
        process = subprocess.Popen(
            argv,
            executable=program,
            cwd=cwd,
            env=dict(env),
            stdout=stdout.write_fd,
            stderr=stderr.write_fd,
            close_fds=False,
            process_group=0,
        )
    except OSError as error:
        _close(stdout, stderr)
        hint = "a script needs a first line such as #!/usr/bin/env python3, or its interpreter on the command line"
        raise UsageError(f"{argv[0]} could not be started: {error.strerror}", hint=hint) from error
    os.close(stdout.write_fd)
    os.close(stderr.write_fd)
    return LocalJob(process, stdout.read_fd, stderr.read_fd)


def _close(*channels: Channel) -> None:
    for channel in channels:
        os.close(channel.read_fd)
        os.close(channel.write_fd)


@dataclass(slots=True)
class _Supervisor:
    job: Job
    signals: Signals
    terminal: Terminal
    copiers: tuple[Copier, Copier]
    relayed: set[int] = field(default_factory=set)
    lends: bool = field(default_factory=lambda: not in_pipeline())
    """Whether the command gets the terminal unasked. In a pipeline, the next program may be a pager that needs it."""

    def begin(self) -> None:
        """Give the command the terminal, then let its output flow."""
        if self.terminal.ours and self.lends:
            self._resume()  # it may have asked for the terminal before it was its turn
        for copier in self.copiers:
            copier.follow_size()
            copier.start()

    def run(self) -> int:
        """Relay signals, and follow stops and resizes, until the command has ended."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.signals.fd, selectors.EVENT_READ)
            if self.job.end_fd is not None:
                selector.register(self.job.end_fd, selectors.EVENT_READ)
            while (code := self.job.poll()) is None:
                if stopped_by := self.job.stopped_by():
                    self._stop(stopped_by)
                selector.select(_HEARTBEAT_SECONDS)
                self._relay(self.signals.read())
                self._follow_size()
        return code

    def _relay(self, numbers: list[int]) -> None:
        for number in numbers:
            if number == signal.SIGCONT:
                self._resume()
            elif number in RELAYED:
                self.relayed.add(number)
                self.job.signal(number)

    def _follow_size(self) -> None:
        # While the command has the terminal, the kernel tells the command about a new size, and not us.
        changed = [copier.follow_size() for copier in self.copiers]
        if any(changed):
            self.job.signal(signal.SIGWINCH)

    def _stop(self, stopped_by: int) -> None:
        """Stop with the command, as the shell expects of what it started; or lend it the terminal that it asked for."""
        asks_terminal = stopped_by in (signal.SIGTTIN, signal.SIGTTOU)
        if asks_terminal and self.terminal.ours:
            self.lends = True
            self._resume()
            return
        if not self.terminal.held_by_command and signal.SIGTSTP not in self.relayed and not asks_terminal:
            return  # somebody stopped the command alone, and will continue it
        self.relayed.discard(signal.SIGTSTP)
        self.terminal.take_back()
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.killpg(os.getpgrp(), signal.SIGTSTP)
        # Here we stand still until SIGCONT.
        signal.signal(signal.SIGTSTP, handler)
        self._relay([number for number in self.signals.read() if number != signal.SIGCONT])
        self._resume()

    def _resume(self) -> None:
        if self.job.process_group is not None and self.lends:
            self.terminal.hand_over(self.job.process_group)
        self.job.signal(signal.SIGCONT)


def supervise(
    start: Callable[[Wanted], Job],
    signals: Signals,
    kept_in: Path,
    *,
    stdout_fd: int = 1,
    stderr_fd: int = 2,
    started: Callable[[], None] = lambda: None,
) -> Outcome:
    """Start a command and stay with it until it has ended.

    Args:
        start: Starts it, with the streams that are wanted.
        signals: From `signals.watch`.
        kept_in: An existing directory for `stdout.stream` and `stderr.stream`.
        stdout_fd: Where its standard output is copied to.
        stderr_fd: Where its standard error is copied to.
        started: Called once it runs.
    """
    terminal = Terminal()
    wall_started_at, clock = time.time(), time.monotonic()
    job = start(Wanted(stdout_is_terminal=os.isatty(stdout_fd), stderr_is_terminal=os.isatty(stderr_fd)))
    copiers = (
        Copier(job.stdout_fd, stdout_fd, kept_in / "stdout.stream"),
        Copier(job.stderr_fd, stderr_fd, kept_in / "stderr.stream"),
    )
    supervisor = _Supervisor(job, signals, terminal, copiers)
    supervisor.begin()
    started()
    try:
        returncode = supervisor.run()
    finally:
        terminal.take_back()
    wall_seconds = time.monotonic() - clock
    for copier in copiers:
        copier.finish()
    cpu_seconds, peak_memory_bytes = job.usage()
    return Outcome(
        returncode=returncode,
        relayed=frozenset(supervisor.relayed),
        started_at=wall_started_at,
        ended_at=wall_started_at + wall_seconds,
        wall_seconds=wall_seconds,
        cpu_seconds=cpu_seconds,
        peak_memory_bytes=peak_memory_bytes,
        stdout=copiers[0],
        stderr=copiers[1],
    )
