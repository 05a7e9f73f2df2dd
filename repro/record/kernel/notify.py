"""seccomp(2) and its listener: install the filter on this thread, receive what it tells, let calls go on.

Sources: seccomp(2), seccomp_unotify(2), `include/uapi/linux/seccomp.h`.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from dataclasses import dataclass
from mmap import mmap
from typing import Final

from repro.record.kernel import bpf

NOTIFICATION: Final = struct.Struct("<QIIiIQ6Q")
"""struct seccomp_notif: id, thread, flags; then seccomp_data: number, architecture, instruction, six arguments."""
BUFFER_BYTES: Final = 4096
"""More than 1024, so that `fcntl.ioctl` gives the kernel the buffer itself and not a copy."""

_RESPONSE = struct.Struct("<QqiI")  # struct seccomp_notif_resp: id, value, error, flags
_CONTINUE = 1
_RECEIVE, _SEND, _IS_VALID, _SET_FLAGS = 0xC0502100, 0xC0182101, 0x40082102, 0x40082104
_SYNC_WAKE_UP = 1
_SET_MODE_FILTER, _GET_ACTION_AVAILABLE = 1, 2
_NEW_LISTENER, _WAIT_KILLABLE = 1 << 3, 1 << 5
_USER_NOTIFY = 0x7FC00000
_PR_SET_NO_NEW_PRIVS, _PR_GET_NO_NEW_PRIVS = 38, 39
_OLDEST_KERNEL = (5, 5)  # SECCOMP_USER_NOTIF_FLAG_CONTINUE


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))  # struct sock_fprog


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A filter on the thread that asked for it."""

    listener_fd: int
    """Closed on exec."""
    took_privileges: bool
    """`no_new_privs` had to be set: setuid programs below this thread run without their privileges."""
    no_new_privs: bool
    """Whether it is set, by whomever."""


def unsupported() -> str | None:
    """Return why this kernel has no user notification, or `None` if it has."""
    machine = os.uname().machine
    if machine not in bpf.MACHINES or ctypes.sizeof(ctypes.c_void_p) != 8:
        return f"there is no filter for the architecture {machine}"
    release = os.uname().release.split(".")
    if tuple(int("".join(filter(str.isdigit, part)) or 0) for part in release[:2]) < _OLDEST_KERNEL:
        return f"Linux {os.uname().release} is too old: seccomp user notification needs 5.5"
    action = ctypes.c_uint32(_USER_NOTIFY)
    if _seccomp(_GET_ACTION_AVAILABLE, 0, ctypes.byref(action)) != 0:
        return f"the kernel refuses seccomp user notification: {os.strerror(ctypes.get_errno())}"
    return None


def install() -> Installed:
    """Put the filter on the calling thread and whatever it starts; it cannot be taken off again.

    Raises:
        OSError: `EBUSY` where something else listens already; `EPERM`, `EINVAL`, `ENOSYS` where the kernel refuses.
    """
    libc = _libc()
    flags = _NEW_LISTENER | _WAIT_KILLABLE
    took_privileges = False
    while True:
        fd = _install(flags)
        if fd >= 0:
            no_new_privs = libc.prctl(_PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1
            return Installed(listener_fd=fd, took_privileges=took_privileges, no_new_privs=no_new_privs)
        error = ctypes.get_errno()
        if error == errno.EINVAL and flags & _WAIT_KILLABLE:
            flags = _NEW_LISTENER  # before Linux 5.19
        elif error == errno.EACCES and not took_privileges:
            if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
                raise OSError(ctypes.get_errno(), "no_new_privs")
            took_privileges = True
        else:
            raise OSError(error, os.strerror(error))


def _install(flags: int) -> int:
    code = bpf.program(bpf.MACHINES[os.uname().machine])
    return _seccomp(_SET_MODE_FILTER, flags, ctypes.byref(_Program(len(code) // 8, code)))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _seccomp(operation: int, flags: int, argument: object) -> int:
    number = bpf.SECCOMP_NUMBER[os.uname().machine]
    call = _libc().syscall
    call.restype = ctypes.c_long
    return int(call(ctypes.c_long(number), ctypes.c_uint(operation), ctypes.c_uint(flags), argument))


def wake_in_step(listener_fd: int) -> bool:
    """Ask the kernel to wake the watcher on the processor of the one that waits for it; return whether it does."""
    try:
        fcntl.ioctl(listener_fd, _SET_FLAGS, _SYNC_WAKE_UP)
    except OSError:
        return False  # before Linux 6.6
    return True


def receive(listener_fd: int, buffer: mmap) -> bool:
    """Receive one notification into a zeroed buffer of `BUFFER_BYTES`; return whether there was one.

    The kernel writes into the buffer itself: where that is shared memory, a notification survives the death of its
    receiver, and another process can answer it.
    """
    try:
        fcntl.ioctl(listener_fd, _RECEIVE, buffer, True)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):
            return False  # the caller was killed meanwhile
        raise
    return True


def is_waiting(listener_fd: int, identity: int) -> bool:
    """Return whether the call is still there: else its process has gone, and its number may be another's."""
    try:
        fcntl.ioctl(listener_fd, _IS_VALID, struct.pack("<Q", identity))
    except OSError:
        return False
    return True


def go_on(listener_fd: int, identity: int) -> None:
    """Let a call go on as if nobody had looked."""
    try:
        fcntl.ioctl(listener_fd, _SEND, _RESPONSE.pack(identity, 0, 0, _CONTINUE))
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EINPROGRESS):  # it was killed, or answered
            raise
