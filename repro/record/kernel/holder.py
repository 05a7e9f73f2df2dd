"""Two small processes outlive whatever happens: a watcher, which answers, and a holder, which replaces it if it dies.

The kernel fails every watched call once nobody holds the listener any more, so a recorder that is killed must not take
the training with it. Both are in a session of their own: no Ctrl-C, no closing terminal, no signal to a process group
reaches them. When the holder dies, the watcher takes its place and forks a watcher anew. Both end by themselves with
the last watched process.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from repro.record.kernel import NAME, SCHEMA, notify
from repro.record.kernel.journal import Journal, shared_memory
from repro.record.kernel.opens import Opens
from repro.record.kernel.programs import Programs
from repro.record.kernel.tasks import Tasks
from repro.record.kernel.worker import Worker, wake_from_time_to_time

if TYPE_CHECKING:
    from repro.record.kernel.lender import Loan

MOST_RESTARTS: Final = 20
LONGEST_LOOK_SECONDS: Final = 10.0
"""A watcher that looks at one call for longer, and up to twice as long, is replaced; the call goes on."""
DONE: Final = b"."
"""What comes through the pipe when the log is complete; its end without this means that both processes are dead."""
_IGNORED: Final = ("INT", "TERM", "HUP", "QUIT", "PIPE", "USR1", "USR2", "TSTP", "TTIN", "TTOU", "XCPU", "VTALRM")


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The pair of processes, as the recorder sees it."""

    pid: int
    """Of the holder, a child of this process."""
    done_fd: int
    """Where `DONE` comes from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """All that a watcher needs."""

    installed: notify.Installed
    events: bytes
    """The run's folder for event logs, absolute."""
    log_fd: int
    done_fd: int
    recorder: int
    loan: Loan | None
    """Where the recorder has to open the memory of processes for the watcher."""


def open_log(events: bytes) -> int:
    """Open the log for appending.

    Raises:
        OSError: It cannot be created.
    """
    path = events + b"/" + NAME.encode()
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def write(log_fd: int, event: dict[str, object]) -> None:
    """Append one event; nothing happens where that cannot be."""
    with suppress(OSError):
        os.write(log_fd, json.dumps(event, separators=(",", ":")).encode() + b"\n")


def begin(installed: notify.Installed, events: bytes, loan: Loan | None) -> Held:
    """Fork the two processes; the caller must not be the thread that is watched.

    Raises:
        OSError: There is no room for a process, or the log cannot be created.
    """
    notify.wake_in_step(installed.listener_fd)
    log_fd = open_log(events)
    begun = {"layer": "seccomp", "no_new_privs": installed.no_new_privs, "at": time.time()}
    write(log_fd, {"event": "layer", "schema": SCHEMA, **begun})
    done_fd, their_done_fd = os.pipe()
    post = Post(
        installed=installed, events=events, log_fd=log_fd, done_fd=their_done_fd, recorder=os.getpid(), loan=loan
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # our other thread waits at a lock: it holds none
            pid = os.fork()
        if pid == 0:
            _live(post)
    finally:
        os.close(log_fd)
        os.close(their_done_fd)
    return Held(pid=pid, done_fd=done_fd)


def _live(post: Post) -> NoReturn:
    """Be the holder, and never return to what the recorder was doing."""
    try:
        borrowed = {post.loan.socket_fd, post.loan.own_memory_fd} if post.loan else set()
        _leave(keep={post.installed.listener_fd, post.log_fd, post.done_fd} | borrowed)
        _hold(post, Journal(shared_memory(), post.log_fd))
        os._exit(0)
    finally:
        os._exit(1)


def _leave(keep: set[int]) -> None:
    """Be nobody's: in no terminal's reach, with nothing open that others wait to see closed."""
    signal.set_wakeup_fd(-1)
    for name in _IGNORED:
        signal.signal(getattr(signal, f"SIG{name}"), signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.setsid()
    os.chdir("/")
    nothing = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)
    for fd in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        if fd > 2 and fd not in keep:
            with suppress(OSError):
                os.close(fd)
    gc.disable()
    gc.freeze()
    with suppress(OSError):
        Path("/proc/self/comm").write_text("repro-watch")


def _hold(post: Post, journal: Journal) -> None:
    """Keep a watcher alive until it has seen the end."""
    first, stuck = True, False
    while True:
        me = os.pidfd_open(os.getpid())
        child = os.fork()
        if child == 0:
            if _watch(post, journal.shared, me, first=first, stuck=stuck):
                with suppress(OSError):
                    os.write(post.done_fd, DONE)
                os._exit(0)
            stuck = False
        else:
            stuck = _is_killed_for_being_stuck(child, journal)
            if os.waitpid(child, 0)[1] == 0:
                return
        journal = Journal(journal.shared, post.log_fd)
        os.close(me)
        journal.restarted()
        first = False


def _is_killed_for_being_stuck(child: int, journal: Journal) -> bool:
    """Wait for the watcher to end; end it if it hangs in one call, as at a file system that this very run serves."""
    ended_fd = os.pidfd_open(child)
    poll = select.poll()
    poll.register(ended_fd, select.POLLIN)
    before, stuck = bytes(8), False
    while not poll.poll(LONGEST_LOOK_SECONDS * 1000):
        identity = journal.shared[:8]
        if any(identity) and identity == before:
            os.kill(child, signal.SIGKILL)
            stuck = True
        before = identity
    os.close(ended_fd)
    return stuck


def _watch(post: Post, shared: mmap, holder_fd: int, *, first: bool, stuck: bool) -> bool:
    """Be the watcher; return whether it is all over: else the holder is dead."""
    journal = Journal(shared, post.log_fd)
    try:
        if stuck:
            _give_up_one(post, journal)
        if journal.restarts > MOST_RESTARTS:
            journal.gap("the kernel layer", "its watcher ended again and again: what came later was not seen")
            journal.flush()
            answer_blindly(post.installed.listener_fd)
            return True
        wake_from_time_to_time()
        opens = Opens(journal, post.events)
        if not first:
            journal.flush()
            opens.remember_log(post.events + b"/" + NAME.encode())
        programs = Programs(journal, opens, takes_privileges=post.installed.took_privileges)
        tasks = Tasks(journal, post.recorder, post.loan, first=first)
        return Worker(post.installed.listener_fd, tasks, journal, opens, programs).run(holder_fd)
    except BaseException:  # noqa: BLE001 - the holder forks another
        os._exit(1)


def _give_up_one(post: Post, journal: Journal) -> None:
    journal.not_resolved()
    journal.gap("files", "a file did not answer when it was looked at: what was done to it could not be told")
    answer_received(post.installed.listener_fd, journal.shared)


def answer_blindly(listener_fd: int) -> None:
    """Let every call go on and look at none, until no watched process is left."""
    poll = select.poll()
    poll.register(listener_fd, select.POLLIN)
    buffer = shared_memory()
    while True:
        for _, what in poll.poll():
            if not what & select.POLLIN:
                return
            if notify.receive(listener_fd, buffer):
                answer_received(listener_fd, buffer)


def answer_received(listener_fd: int, buffer: mmap) -> None:
    """Let the call in a buffer go on, and make room for the next."""
    notify.go_on(listener_fd, notify.NOTIFICATION.unpack_from(buffer)[0])
    buffer[: notify.NOTIFICATION.size] = bytes(notify.NOTIFICATION.size)
