"""Open the memory of processes for the watcher where only an ancestor may, which is the recorder.

So it is where `kernel.yama.ptrace_scope` is 1. The permission is asked for when /proc/PID/mem is opened and never
again, so the recorder opens it and hands the descriptor over. The first program is started while the recorder stands
still (`vfork`): until then the new process shares the recorder's own memory, which is handed over beforehand.

Source: Documentation/admin-guide/LSM/Yama.rst.
"""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass
from typing import Final

_LONGEST_WAIT_SECONDS: Final = 2.0
_REQUEST = struct.Struct("<I")
_MEMORY = os.O_RDONLY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class Loan:
    """What the watcher borrows with."""

    socket_fd: int
    own_memory_fd: int
    """The recorder's own."""


def open_pair() -> tuple[socket.socket, Loan]:
    """Return the lender's end, and what the watcher inherits.

    Raises:
        OSError: There are no descriptors left.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    memory = os.open("/proc/self/mem", _MEMORY)
    return ours, Loan(socket_fd=theirs.detach(), own_memory_fd=memory)


def close(loan: Loan) -> None:
    """Close the watcher's ends here, once it has inherited them."""
    os.close(loan.socket_fd)
    os.close(loan.own_memory_fd)


def lend(ours: socket.socket) -> None:
    """Open memory for the watcher for as long as it lives; a thread's work."""
    with ours:
        while request := ours.recv(_REQUEST.size):
            try:
                memory = os.open(f"/proc/{_REQUEST.unpack(request)[0]}/mem", _MEMORY)
            except OSError:
                ours.send(b"0")
                continue
            socket.send_fds(ours, [b"1"], [memory])
            os.close(memory)


def borrow(loan: Loan, tid: int) -> int:
    """Return a descriptor of a thread's memory that the recorder has opened.

    Raises:
        PermissionError: The recorder may not look either, or is no more.
    """
    with socket.socket(fileno=os.dup(loan.socket_fd)) as theirs:
        theirs.settimeout(_LONGEST_WAIT_SECONDS)
        try:
            theirs.send(_REQUEST.pack(tid))
            _, found, _, _ = socket.recv_fds(theirs, 1, 1)
        except OSError:
            found = []
    if not found:
        raise PermissionError("only the process that started it may look at it")
    os.set_inheritable(found[0], False)
    return found[0]
