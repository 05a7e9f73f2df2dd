"""The threads that call: whose they are, what they passed, where their paths lead.

A thread is known by a descriptor of its folder in /proc, which stands for that thread and never for a later one of the
same number. While the watcher looks, the thread waits in the kernel: what is read is what it passed.
"""

# Paths are bytes here, which pathlib does not take.
# ruff: noqa: PTH115

from __future__ import annotations

import errno
import os
import resource
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from repro.record.kernel.journal import Journal

if TYPE_CHECKING:
    from repro.record.kernel.lender import Loan

AT_FDCWD: Final = -100
_KEPT_SECONDS: Final = 0.05
"""How long a thread's memory is kept open: no number becomes another thread's as fast, since they go round in turn."""
_PAGE_BYTES = 4096
_PIECE_BYTES = 256  # a page takes longer to copy than most paths are long
_LONGEST_PATH_BYTES = 4096
_MOST_ARGUMENT_BYTES = 1024 * 1024
_MOST_WORDS = 32 * 1024
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_MEMORY = os.O_RDONLY | os.O_CLOEXEC
_TAG_BITS = 0x00FFFFFFFFFFFFFF  # the top byte of an address is no address on aarch64


class Unresolved(Exception):
    """A path that cannot be told; the message says why, in words that finish "its path could not be told: "."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One thread of the run."""

    fd: int
    pid: int
    """Of its process."""
    name: str
    """Of its process."""
    root: bytes
    """What to put before its absolute paths: empty, or its root folder after a chroot."""
    foreign: bool
    """It has mounts of its own, so that its paths may lead elsewhere for us."""


class Tasks:
    """The threads seen lately.

    Args:
        journal: Where to tell of processes.
        recorder: The process id of the recorder, whose own calls are not told.
        loan: Where the recorder has to open memory for us.
        first: The command has not started yet.
    """

    def __init__(self, journal: Journal, recorder: int, loan: Loan | None, *, first: bool) -> None:
        self._journal = journal
        self._recorder = recorder
        self._loan = loan
        self._borrowed: dict[int, int] = {}
        self._executed: set[int] = set()
        self._first = first
        self._tasks: dict[int, Task] = {}
        self._started: dict[int, bytes] = {}
        self._opened: dict[int, tuple[int, float]] = {}
        self._mounts = os.readlink("/proc/self/ns/mnt")
        self._most = _raise_limit()

    def find(self, tid: int, is_waiting: Callable[[], bool]) -> tuple[Task, int] | None:
        """Return a thread and a descriptor of its memory, which stays ours; `None` where nothing is to be told.

        Args:
            tid: The thread.
            is_waiting: Asked, where it is new to us, whether it still is the one that called.

        Raises:
            OSError: It has gone, or it may not be looked at.
        """
        task = self._tasks.get(tid)
        if task is not None:
            try:
                return self._with_memory(tid, task)
            except OSError as error:
                self.forget(tid)
                if error.errno not in (errno.ENOENT, errno.ESRCH):
                    raise
        task = self._look(tid)
        found = self._with_memory(tid, task)
        return found if is_waiting() else None

    def _with_memory(self, tid: int, task: Task) -> tuple[Task, int] | None:
        opened = self._opened.get(tid)
        now = time.monotonic()
        if opened is not None:
            if now - opened[1] < _KEPT_SECONDS:
                return task, opened[0]
            os.close(self._opened.pop(tid)[0])
        memory = self._memory(tid, task)
        if memory is None:
            return None
        if tid not in self._borrowed and (self._loan is None or memory != self._loan.own_memory_fd):
            self._opened[tid] = memory, now
        return task, memory

    def _memory(self, tid: int, task: Task) -> int | None:
        if task.pid == self._recorder:
            os.stat("stat", dir_fd=task.fd)  # it still is
            return None
        try:
            return open_memory(task)
        except PermissionError:
            if self._loan is None:
                raise
        if self._first and task.pid not in self._executed and identity(task.pid)[1] == self._recorder:
            return self._loan.own_memory_fd
        if tid not in self._borrowed:
            from repro.record.kernel import lender

            self._borrowed[tid] = lender.borrow(self._loan, tid)
        return self._borrowed[tid]

    def forget(self, tid: int) -> None:
        """Look at a thread anew next time."""
        task = self._tasks.pop(tid, None)
        if task is not None:
            os.close(task.fd)
        if tid in self._opened:
            os.close(self._opened.pop(tid)[0])
        if tid in self._borrowed:
            os.close(self._borrowed.pop(tid))

    def forget_process(self, task: Task, *, executed: bool = True) -> None:
        """Look at a process anew next time: it becomes another program, or its paths will lead elsewhere."""
        if executed and self._loan is not None:
            self._executed.add(task.pid)
        for tid in [tid for tid, other in self._tasks.items() if other.pid == task.pid]:
            self.forget(tid)

    def _look(self, tid: int) -> Task:
        if len(self._tasks) >= self._most:
            self.forget(next(iter(self._tasks)))
        fd = os.open(f"/proc/{tid}", _FOLDER)
        try:
            pid = int(_read("status", fd).partition(b"\nTgid:")[2].partition(b"\n")[0])
            root = os.readlink(b"root", dir_fd=fd)
            foreign = os.readlink("ns/mnt", dir_fd=fd) != self._mounts
            name = self._introduce(pid) if pid != self._recorder else ""
        except (OSError, ValueError):
            os.close(fd)
            raise
        task = Task(fd=fd, pid=pid, name=name, root=b"" if root == b"/" or foreign else root, foreign=foreign)
        self._tasks[tid] = task
        return task

    def _introduce(self, pid: int) -> str:
        """Tell of a process that is new; return its name."""
        name, parent, started = identity(pid)
        if self._started.get(pid) != started:
            self._started[pid] = started
            self._journal.add({"event": "process", "pid": pid, "parent": parent, "name": name, "at": time.time()})
        return name


def open_memory(task: Task) -> int:
    """Open a thread's memory: what it is now, and not what it was before it became another program.

    Raises:
        OSError: It has gone, or it may not be looked at.
    """
    return os.open("mem", _MEMORY, dir_fd=task.fd)


def identity(pid: int) -> tuple[str, int, bytes]:
    """Return a process's name, its parent and when it started, in the kernel's ticks (proc_pid_stat(5))."""
    try:
        head, _, tail = _read(f"/proc/{pid}/stat").rpartition(b")")
    except OSError:
        return "", 0, b""
    fields = tail.split()
    return head.partition(b"(")[2].decode("utf-8", "backslashreplace"), int(fields[1]), fields[19]


def _read(path: str, dir_fd: int | None = None) -> bytes:
    fd = os.open(path, _MEMORY, dir_fd=dir_fd)
    try:
        return os.read(fd, _PAGE_BYTES)
    finally:
        os.close(fd)


def _raise_limit() -> int:
    """Allow this process as many descriptors as it may have; return how many threads to remember."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    except (OSError, ValueError):
        pass
    return max(16, min(4096, soft // 3 if soft > 0 else 4096))  # each takes two, and some are ours


def text_at(memory: int, address: int) -> bytes:
    """Return the string at an address.

    Raises:
        Unresolved: It has no end within the longest path.
        OSError: There is nothing at that address: the call will fail.
    """
    address &= _TAG_BITS
    found = b""
    while len(found) < _LONGEST_PATH_BYTES:
        at = address + len(found)
        piece = os.pread(memory, _PIECE_BYTES - at % _PIECE_BYTES, at)
        if not piece:
            raise OSError(errno.EFAULT, "no memory there")
        text, end, _ = piece.partition(b"\0")
        found += text
        if end:
            return found
    raise OSError(errno.ENAMETOOLONG, "no path is that long")


def words_at(memory: int, address: int, pointer_bytes: int) -> list[str]:
    """Return the strings that an array of pointers, ended by a zero, leads to; as many as 1 MiB holds."""
    words: list[str] = []
    size_bytes = 0
    code = "<I" if pointer_bytes == 4 else "<Q"
    for index in range(_MOST_WORDS if address else 0):
        (pointer,) = struct.unpack(code, os.pread(memory, pointer_bytes, (address & _TAG_BITS) + index * pointer_bytes))
        if pointer == 0 or size_bytes > _MOST_ARGUMENT_BYTES:
            break
        word = _word_at(memory, pointer)
        size_bytes += len(word)
        words.append(word.decode("utf-8", "backslashreplace"))
    return words


def _word_at(memory: int, address: int) -> bytes:
    """Return a string that may be longer than a path; what is over 128 KiB, the kernel's own limit, is cut."""
    address &= _TAG_BITS
    found = b""
    while len(found) < 32 * _PAGE_BYTES:
        at = address + len(found)
        piece, end, _ = os.pread(memory, _PAGE_BYTES - at % _PAGE_BYTES, at).partition(b"\0")
        found += piece
        if end or not piece:
            break
    return found


def absolute(task: Task, path: bytes, folder_fd: int) -> bytes:
    """Return the absolute path that a thread's path leads to, for us: as `repro.agent.files.absolute` makes it.

    Raises:
        Unresolved: The folder that it starts from has no path here.
        OSError: There is no such folder: the call will fail.
    """
    if path.startswith(b"/"):
        path = task.root + path
        if path.startswith((b"/proc/self/", b"/proc/thread-self/", b"/dev/fd/", b"/dev/std")):
            path = _own(task, path)
    else:
        folder = link(task, folder_fd)
        if not folder.startswith(b"/"):
            raise Unresolved("the folder that it starts from has no path here")
        path = folder + b"/" + path
    if b"/../" in path or path.endswith(b"/.."):
        folder, _, name = path.rpartition(b"/")
        path = os.path.realpath(path) if name == b".." else os.path.realpath(folder) + b"/" + name
    elif b"//" in path or b"/./" in path:
        path = b"/" + os.path.normpath(path).lstrip(b"/")
    return path


def _own(task: Task, path: bytes) -> bytes:
    """Return what a thread's name for one of its own descriptors leads to."""
    number = {b"/dev/stdin": b"0", b"/dev/stdout": b"1", b"/dev/stderr": b"2"}.get(path)
    for start in (b"/proc/self/fd/", b"/proc/thread-self/fd/", b"/dev/fd/"):
        if path.startswith(start):
            number = path.removeprefix(start)
    return path if number is None or not number.isdigit() else link(task, int(number))


def link(task: Task, fd: int) -> bytes:
    """Return what one of a thread's descriptors, or its working directory (`AT_FDCWD`), leads to.

    Raises:
        Unresolved: We may not look.
        OSError: It has no such descriptor.
    """
    try:
        return os.readlink(b"cwd" if fd == AT_FDCWD else b"fd/%d" % fd, dir_fd=task.fd)
    except PermissionError:
        raise Unresolved("its descriptors may not be looked at") from None


def signed(values: Sequence[int]) -> tuple[int, ...]:
    """Return register values as the kernel takes an `int` from them: their lower 32 bits, with a sign."""
    return tuple(map(as_int, values))


def as_int(value: int) -> int:
    """Return one register value as the kernel takes an `int` from it."""
    return (value & 0xFFFFFFFF ^ 0x80000000) - 0x80000000
