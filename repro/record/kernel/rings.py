"""The rings of io_uring: what is about to be submitted through one, and which of them cannot be looked at.

A program that uses a ring puts its requests into memory that it shares with the kernel, and submits them with
io_uring_enter(2). While it waits for us, we look at what lies there:

- The kernel itself lists it, in /proc/PID/fdinfo/RING, since Linux 5.16: each request, in the order and the layout that
  it will read them in, wherever the memory is. What opens or removes a file is told as the system call would be.
- A ring without an array of indices, as libuv makes them since Linux 6.6, is not listed; older kernels may even follow
  the array that is not there. So once the run has asked for one, no listing is read any more. Requests are looked for
  in the memory of the process, which can be read since Linux 6.10; those that have ended still lie there.

Most rings, such as those that libuv waits for sockets with, never touch a path. A gap is only what may have opened or
changed files that we cannot tell: a ring that the kernel polls by itself, one that is not listed, a request that we do
not know.

Sources: io_uring_setup(2), io_uring_enter(2), `include/uapi/linux/io_uring.h`, `io_uring/fdinfo.c`, `io_uring/opdef.c`.
"""

from __future__ import annotations

import errno
import os
import time
from typing import Final

from repro.record.kernel.bpf import AT_REMOVEDIR
from repro.record.kernel.journal import Journal
from repro.record.kernel.opens import Opens
from repro.record.kernel.tasks import Task, Unresolved, absolute, link, signed, text_at

_SETUP_FLAGS_AT, _FLAGS_BYTES = 8, 4  # in struct io_uring_params
_POLLED_BY_KERNEL, _NO_DESCRIPTOR = 1 << 1, 1 << 15  # IORING_SETUP_SQPOLL, IORING_SETUP_REGISTERED_FD_ONLY
_OWN_MEMORY, _NO_ARRAY = 1 << 14, 1 << 16  # IORING_SETUP_NO_MMAP, IORING_SETUP_NO_SQARRAY
_KNOWN_FLAGS = (1 << 19) - 1  # up to IORING_SETUP_CQE_MIXED
_SEEN: Final = _KNOWN_FLAGS & ~(_POLLED_BY_KERNEL | _NO_DESCRIPTOR)
"""With these flags of io_uring_setup(2) alone, what is submitted passes io_uring_enter(2) with a descriptor."""
_BY_INDEX = 1 << 4  # IORING_ENTER_REGISTERED_RING: not the descriptor, but a number of the kernel's own
_HOW_FLAGS_BYTES = 8  # the first field of struct open_how
_RING = b"anon_inode:[io_uring]"
_REQUESTS_AT, _REQUEST_BYTES = b"10000000", 64  # IORING_OFF_SQES; a wide request takes two
_MOST_BYTES: Final = 256 * 1024
"""More than that is not read at each submission, so that none is held up for more than some 0.3 ms."""
_READ_BYTES = 64 * 1024
_MOST_LOOKS, _PAUSE_SECONDS = 20, 0.0002

_NAMES = (
    "NOP READV WRITEV FSYNC READ_FIXED WRITE_FIXED POLL_ADD POLL_REMOVE SYNC_FILE_RANGE SENDMSG RECVMSG TIMEOUT "
    "TIMEOUT_REMOVE ACCEPT ASYNC_CANCEL LINK_TIMEOUT CONNECT FALLOCATE OPENAT CLOSE FILES_UPDATE STATX READ WRITE "
    "FADVISE MADVISE SEND RECV OPENAT2 EPOLL SPLICE PROVIDE_BUFFERS REMOVE_BUFFERS TEE SHUTDOWN RENAMEAT UNLINKAT "
    "MKDIRAT SYMLINKAT LINKAT MSG_RING FSETXATTR SETXATTR FGETXATTR GETXATTR SOCKET URING_CMD SEND_ZC SENDMSG_ZC "
    "READ_MULTISHOT WAITID FUTEX_WAIT FUTEX_WAKE FUTEX_WAITV FIXED_FD_INSTALL FTRUNCATE BIND LISTEN RECV_ZC EPOLL_WAIT "
    "READV_FIXED WRITEV_FIXED PIPE"
)
_REQUESTS: Final = _NAMES.split()
"""By number, as the kernel names them; Linux 5.16 to 6.0 list the number."""
_OPENS: Final = frozenset(("OPENAT", "OPENAT2"))
_HARMLESS: Final = frozenset(_REQUESTS) - _OPENS - {"RENAMEAT", "UNLINKAT", "MKDIRAT", "SYMLINKAT", "LINKAT"}

_HARMLESS_BYTES: Final = bytes(number for number, name in enumerate(_REQUESTS) if name in _HARMLESS)

Entry = dict[bytes, bytes]
"""One request as the kernel lists it: `opcode`, `fd`, `off`, `addr`, `rw_flags` and others, by name."""


class Rings:
    """What the run submits through rings.

    Args:
        journal: Where to tell of rings that cannot be looked at.
        opens: Where to tell of files.
    """

    def __init__(self, journal: Journal, opens: Opens) -> None:
        self._journal = journal
        self._opens = opens
        self._hidden: set[int] = set()
        self._asked = 0
        self._areas: dict[int, list[bytes]] = {}
        self._used: dict[int, set[int]] = {}

    def asked(self, task: Task, memory: int, arguments: tuple[int, ...]) -> None:
        """Look at a call of io_uring_setup(2)."""
        flags = int.from_bytes(os.pread(memory, _FLAGS_BYTES, arguments[1] + _SETUP_FLAGS_AT), "little")
        self._asked |= flags
        self._areas.pop(task.pid, None)
        if flags & ~_SEEN:
            self._hide(task)

    def submitted(self, task: Task, memory: int, arguments: tuple[int, ...]) -> None:
        """Look at a call of io_uring_enter(2): tell of the files that it is about to open and remove.

        Raises:
            Unresolved: A path could not be told; the other requests are.
        """
        (fd,) = signed(arguments[:1])
        if arguments[3] & _BY_INDEX or self._journal.restarts:  # a watcher before us knew what was asked for
            self._hide(task)
        elif not self._asked & _NO_ARRAY:
            self._tell(task, memory, self._waiting(task, fd))
        elif task.pid not in self._hidden and not self._is_harmless(task, memory, fd):
            self._hide(task)

    def _tell(self, task: Task, memory: int, entries: list[Entry] | None) -> None:
        if entries is None:
            self._hide(task)
            return
        unresolved: Unresolved | None = None
        for entry in entries:
            try:
                if not self._request(task, memory, entry):
                    self._hide(task)
            except Unresolved as error:
                unresolved = error
            except OSError as error:
                if error.errno == errno.EFAULT:
                    raise  # another program may be in its place: look again
                # There is no such path, or none that we may look at: the request will fail.
        if unresolved is not None:
            raise unresolved

    def _request(self, task: Task, memory: int, entry: Entry) -> bool:
        """Tell of one request, if it names a file; return whether all that it does is known."""
        name = _name(entry[b"opcode"])
        if name in _HARMLESS:
            return True
        if b"addr" not in entry or name not in (*_OPENS, "UNLINKAT"):
            return False
        flags = int(entry[b"rw_flags"], 16)
        if name == "OPENAT2":
            flags = int.from_bytes(os.pread(memory, _HOW_FLAGS_BYTES, int(entry[b"off"])), "little")
        if flags & (AT_REMOVEDIR if name == "UNLINKAT" else os.O_DIRECTORY | os.O_PATH):
            return True
        path = text_at(memory, int(entry[b"addr"], 16))
        if path:
            path = absolute(task, path, int(entry[b"fd"]))
            self._opens.opened(task, path, flags) if name in _OPENS else self._opens.removed(task, path)
        return True

    def _waiting(self, task: Task, fd: int) -> list[Entry] | None:
        """Return the requests that lie in a ring, or `None` where they cannot be told.

        The kernel lists nothing while another thread submits: that takes microseconds.

        Raises:
            OSError: There is no such descriptor: the call will fail.
        """
        for _ in range(1 if task.pid in self._hidden else _MOST_LOOKS):
            try:
                head, found, rest = _read_all(task, b"fdinfo/%d" % fd, b"\nCQEs:").partition(b"\nSQEs:\t")
                if found:
                    return _entries(head, rest)
                if link(task, fd) != _RING:
                    return []  # the call will fail
            except (PermissionError, Unresolved):
                return None
            time.sleep(_PAUSE_SECONDS)
        return None

    def _is_harmless(self, task: Task, memory: int, fd: int) -> bool:
        """Say whether no request that lies in the process's memory, submitted or not, names a file."""
        if self._asked & _OWN_MEMORY:
            return False
        areas = self._areas.get(task.pid, [])
        if fd not in self._used.get(task.pid, ()) or not areas or not all(_is_there(task, area) for area in areas):
            if link(task, fd) != _RING:
                return True  # the call will fail
            areas = self._find_areas(task, fd)
        ends = [tuple(int(end, 16) for end in area.split(b"-")) for area in areas]
        if not ends or sum(end - start for start, end in ends) > _MOST_BYTES:
            return False
        try:
            found = [os.pread(memory, end - start, start) for start, end in ends]
        except OSError:
            return False  # before Linux 6.10
        whole = all(len(each) == end - start for each, (start, end) in zip(found, ends, strict=True))
        return whole and not any(each[::_REQUEST_BYTES].translate(None, _HARMLESS_BYTES) for each in found)

    def _find_areas(self, task: Task, fd: int) -> list[bytes]:
        """Return where a process has the requests of its rings: none where some ring's are not there.

        Reading the whole list takes long in a large process, so it is done for each ring once.
        """
        used = {each for each in self._used.get(task.pid, ()) if _leads_to_ring(task, each)} | {fd}
        areas = []
        for line in _read_all(task, b"maps").splitlines():
            fields = line.split(maxsplit=5)
            if line.endswith(_RING) and fields[2].lstrip(b"0") == _REQUESTS_AT:
                areas.append(fields[0])
        self._used[task.pid], self._areas[task.pid] = used, areas
        return areas if len(areas) >= len(used) else []

    def _hide(self, task: Task) -> None:
        if task.pid not in self._hidden:
            self._hidden.add(task.pid)
            self._journal.add({"event": "io_uring", "pid": task.pid, "at": time.time()})


def _read_all(task: Task, name: bytes, until: bytes | None = None) -> bytes:
    """Return what a file in a thread's folder in /proc says, at least up to a mark."""
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=task.fd)
    try:
        text = b""
        while piece := os.read(fd, _READ_BYTES):
            text += piece
            if until is not None and until in text:
                break
        return text
    finally:
        os.close(fd)


def _is_there(task: Task, area: bytes) -> bool:
    """Return whether a ring's memory is still where it was."""
    try:
        return os.readlink(b"map_files/" + area, dir_fd=task.fd) == _RING
    except OSError:
        return False


def _leads_to_ring(task: Task, fd: int) -> bool:
    try:
        return link(task, fd) == _RING
    except OSError:
        return False


def _entries(head: bytes, rest: bytes) -> list[Entry] | None:
    """Return the requests of a listing, or `None` where there are more.

    Args:
        head: What stands before their number.
        rest: Their number, and what follows.
    """
    number, *lines = rest.partition(b"\nCQEs:")[0].split(b"\n")
    most = int(head.partition(b"\nSqMask:\t")[2].partition(b"\n")[0], 16) + 1
    return [_entry(line) for line in lines] if len(lines) == min(int(number), most) else None


def _entry(line: bytes) -> Entry:
    words = line.partition(b": ")[2].replace(b",", b" ").split()
    return {name: value for name, _, value in (word.partition(b":") for word in words)}


def _name(opcode: bytes) -> str:
    text = opcode.decode("ascii")
    if not text.isdigit():
        return text
    return _REQUESTS[int(text)] if int(text) < len(_REQUESTS) else text
