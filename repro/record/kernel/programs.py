"""What is told of programs: which are executed, and which lose privileges by being watched."""

# Paths are bytes here, which pathlib does not take.
# ruff: noqa: PTH116, PTH123

from __future__ import annotations

import errno
import os
import time
from stat import S_ISGID, S_ISREG, S_ISUID, S_IXGRP
from typing import Final

from repro.evidence.canonical import encode_path
from repro.record.kernel.journal import Journal
from repro.record.kernel.opens import Opens
from repro.record.kernel.tasks import Task, identity, words_at

_HEAD_BYTES: Final = 256  # as much as the kernel looks at: BINPRM_BUF_SIZE


class Programs:
    """What the run executed.

    Args:
        journal: Where to tell.
        opens: What has been opened: interpreters of scripts are.
        takes_privileges: Whether the watch had to set `no_new_privs`.
    """

    def __init__(self, journal: Journal, opens: Opens, *, takes_privileges: bool) -> None:
        self._journal = journal
        self._opens = opens
        self._takes_privileges = takes_privileges

    def executed(self, task: Task, memory: int, path: bytes, argv: int, pointer_bytes: int) -> None:
        """Tell of a process that is about to become another program.

        Raises:
            OSError: There is no such program: the call will fail.
        """
        state = os.stat(path) if path.startswith(b"/") and not path.endswith(b" (deleted)") else None
        if state is not None and (not S_ISREG(state.st_mode) or not os.access(path, os.X_OK)):
            return
        event = {
            "event": "execute",
            "pid": task.pid,
            "parent": identity(task.pid)[1],
            "path": encode_path(path),
            "argv": words_at(memory, argv, pointer_bytes),
            "at": time.time(),
        }
        self._journal.add(event)
        if state is None:
            return
        if self._takes_privileges and is_privileged(path, state):
            reason = "it gives privileges, which it could not, because the run was watched without privileges"
            self._journal.gap(encode_path(path), reason)
        if interpreter := interpreter_of(path):
            self._opens.read_by_kernel(task, interpreter)


def is_privileged(path: bytes | str, state: os.stat_result) -> bool:
    """Return whether a program runs with other privileges than its caller: setuid, setgid, file capabilities."""
    if state.st_mode & S_ISUID or state.st_mode & (S_ISGID | S_IXGRP) == S_ISGID | S_IXGRP:
        return True
    try:
        return bool(os.getxattr(path, "security.capability"))
    except OSError as error:
        return error.errno not in (errno.ENODATA, errno.ENOTSUP, errno.ENOENT, errno.EACCES, errno.EPERM)


def interpreter_of(path: bytes) -> bytes | None:
    """Return the absolute path in the first line of a script, or `None` for other programs."""
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return None
    words = head.removeprefix(b"#!").partition(b"\n")[0].split(None, 1)
    return words[0] if head.startswith(b"#!") and words and words[0].startswith(b"/") else None
