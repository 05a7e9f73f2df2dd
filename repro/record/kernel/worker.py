"""The watcher: answers each notification with "go on", and tells first what the call is about to do.

What a call returns is not told to us, so a call that will fail is left out as far as can be seen beforehand: the file
is not there, is no file, or may not be opened. No failure of ours holds a call up: it becomes a gap, and the call goes
on.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
from collections.abc import Callable
from typing import Final

from repro.record.kernel import bpf, notify
from repro.record.kernel.journal import FLUSH_SECONDS, Journal
from repro.record.kernel.opens import Opens
from repro.record.kernel.programs import Programs
from repro.record.kernel.rings import Rings
from repro.record.kernel.tasks import AT_FDCWD, Task, Tasks, Unresolved, absolute, as_int, link, text_at

_AT_EMPTY_PATH: Final = 0x1000
_OPEN_HOW_BYTES: Final = 8  # the first field of struct open_how: its flags
_IDENTITY_BYTES: Final = notify.NOTIFICATION.size
_ZEROS: Final = bytes(_IDENTITY_BYTES)

Arguments = tuple[int, ...]
Handler = Callable[[Task, int, Arguments], None]


class Worker:
    """Watches until no watched process is left.

    Args:
        listener_fd: Of the filter.
        tasks: The threads that call.
        journal: Where to tell.
        opens: What has been opened.
        programs: What has been executed.
    """

    def __init__(self, listener_fd: int, tasks: Tasks, journal: Journal, opens: Opens, programs: Programs) -> None:
        self._listener_fd = listener_fd
        self._journal = journal
        self._opens = opens
        self._programs = programs
        self._tasks = tasks
        self._rings = Rings(journal, opens)
        self._handlers = {
            (interface.audit, number): self._handler(name, interface.pointer_bytes)
            for interface in bpf.MACHINES[os.uname().machine]
            for name, number in interface.calls.items()
        }

    def run(self, holder_fd: int) -> bool:
        """Answer until all have ended; return whether they have: else the holder is gone.

        Args:
            holder_fd: Becomes readable when the holder has ended.
        """
        poll = select.poll()
        poll.register(self._listener_fd, select.POLLIN)
        poll.register(holder_fd, select.POLLIN)
        if any(self._journal.shared[:_IDENTITY_BYTES]):
            self._answer()  # what the watcher before us had received
        while True:
            for fd, what in poll.poll(FLUSH_SECONDS * 1000 if self._journal.waiting_bytes else None):
                if fd == holder_fd:
                    self._journal.flush()
                    return False
                if what & select.POLLIN:
                    if notify.receive(self._listener_fd, self._journal.shared):
                        self._answer()
                elif what & (select.POLLHUP | select.POLLERR | select.POLLNVAL):
                    self._journal.end()
                    return True
            self._journal.flush_if_due(time.monotonic())

    def _answer(self) -> None:
        """Look at the notification in the shared buffer, let the call go on, and make room for the next."""
        shared = self._journal.shared
        identity, tid, _, number, architecture, _, *arguments = notify.NOTIFICATION.unpack_from(shared)
        try:
            self._look(identity, tid, (architecture, number & ~bpf.X32_BIT), tuple(arguments))
        except Exception as error:  # noqa: BLE001 - whatever it is, the call must go on
            self._journal.gap(
                "the kernel layer", f"a call could not be looked at: {type(error).__name__}: {error}"[:300]
            )
        finally:
            notify.go_on(self._listener_fd, identity)
            shared[:_IDENTITY_BYTES] = _ZEROS

    def _look(
        self, identity: int, tid: int, call: tuple[int, int], arguments: Arguments, *, again: bool = False
    ) -> None:
        handler = self._handlers.get(call)
        if handler is None:
            return
        try:
            found = self._tasks.find(tid, lambda: notify.is_waiting(self._listener_fd, identity))
        except OSError as error:
            if notify.is_waiting(self._listener_fd, identity):
                self._not_resolved(str(tid), f"the process may not be looked at: {error.strerror}")
            return
        if found is None:
            return
        task, memory = found
        try:
            handler(task, memory, arguments)
        except Unresolved as error:
            self._not_resolved(task.name, str(error))
        except OSError as error:
            # There is no such path, or none that we may look at: the call will fail.
            if error.errno == errno.EFAULT and not again:
                self._tasks.forget(tid)  # by now, another program may be in the place of the one whose memory we kept
                self._look(identity, tid, call, arguments, again=True)

    def _not_resolved(self, subject: str, reason: str) -> None:
        self._journal.not_resolved()
        self._journal.gap(subject, f"what it opened could not be told: {reason}")

    def _handler(self, name: str, pointer_bytes: int) -> Handler:
        """Return what to do with a call. Where each argument stands: the manual page of the call."""
        name, _, is_x32 = name.partition(" ")
        if is_x32:
            pointer_bytes = 4

        def execute(task: Task, memory: int, folder: int, path: int, argv: int, flags: int = 0) -> None:
            try:
                program = self._path(task, memory, path, folder, empty=bool(flags & _AT_EMPTY_PATH))
                self._programs.executed(task, memory, program, argv, pointer_bytes)
            finally:
                self._tasks.forget_process(task)

        plain: dict[str, Handler] = {
            "open": lambda t, m, a: self._opens.opened(t, self._path(t, m, a[0]), as_int(a[1])),
            "openat": lambda t, m, a: self._opens.opened(t, self._path(t, m, a[1], a[0]), as_int(a[2])),
            "openat2": self._on_openat2,
            "creat": lambda t, m, a: self._opens.opened(
                t, self._path(t, m, a[0]), os.O_CREAT | os.O_WRONLY | os.O_TRUNC
            ),
            "truncate": lambda t, m, a: self._opens.opened(t, self._path(t, m, a[0]), os.O_WRONLY),
            "truncate64": lambda t, m, a: self._opens.opened(t, self._path(t, m, a[0]), os.O_WRONLY),
            "unlink": lambda t, m, a: self._opens.removed(t, self._path(t, m, a[0])),
            "unlinkat": lambda t, m, a: self._opens.removed(t, self._path(t, m, a[1], a[0])),
            "rename": lambda t, m, a: self._opens.renamed(t, self._path(t, m, a[0]), self._path(t, m, a[1])),
            "renameat": self._on_renameat,
            "renameat2": lambda t, m, a: self._on_renameat(t, m, a, flags=a[4]),
            "link": lambda t, m, a: self._opens.linked(t, self._path(t, m, a[0]), self._path(t, m, a[1])),
            "linkat": self._on_linkat,
            "execve": lambda t, m, a: execute(t, m, AT_FDCWD, a[0], a[1]),
            "execveat": lambda t, m, a: execute(t, m, a[0], a[1], a[2], a[4]),
            **dict.fromkeys(("chroot", "pivot_root", "setns", "unshare"), self._on_other_root),
            "open_by_handle_at": self._on_handle,
            "io_uring_setup": self._rings.asked,
            "io_uring_enter": self._rings.submitted,
        }
        return plain[name]

    def _path(self, task: Task, memory: int, address: int, folder: int = AT_FDCWD, *, empty: bool = False) -> bytes:
        path, folder_fd = text_at(memory, address), as_int(folder)
        if not path:
            if empty and folder_fd >= 0:
                return link(task, folder_fd)
            raise FileNotFoundError(path)
        return absolute(task, path, folder_fd)

    def _on_openat2(self, task: Task, memory: int, arguments: Arguments) -> None:
        flags = int.from_bytes(os.pread(memory, _OPEN_HOW_BYTES, arguments[2]), "little")
        if not flags & (os.O_DIRECTORY | os.O_PATH):
            self._opens.opened(task, self._path(task, memory, arguments[1], arguments[0]), flags)

    def _on_renameat(self, task: Task, memory: int, arguments: Arguments, *, flags: int = 0) -> None:
        source = self._path(task, memory, arguments[1], arguments[0])
        self._opens.renamed(task, source, self._path(task, memory, arguments[3], arguments[2]), flags)

    def _on_linkat(self, task: Task, memory: int, arguments: Arguments) -> None:
        empty = bool(arguments[4] & _AT_EMPTY_PATH)
        source = self._path(task, memory, arguments[1], arguments[0], empty=empty)
        self._opens.linked(task, source, self._path(task, memory, arguments[3], arguments[2]))

    def _on_other_root(self, task: Task, memory: int, arguments: Arguments) -> None:
        """Look at the process anew next time: its paths are about to lead elsewhere."""
        self._tasks.forget_process(task, executed=False)

    def _on_handle(self, task: Task, memory: int, arguments: Arguments) -> None:
        self._not_resolved(task.name, "it opened files by a handle, which has no name")


def wake_from_time_to_time() -> None:
    """Let no wait for a notification last for ever: its caller may be killed just before we ask for it."""
    import signal

    signal.signal(signal.SIGALRM, lambda number, frame: None)
    with contextlib.suppress(OSError):
        signal.setitimer(signal.ITIMER_REAL, 5.0, 5.0)
