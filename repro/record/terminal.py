"""The terminal on our standard input, and whose turn it is."""

from __future__ import annotations

import os
import signal
import stat
import termios


class Terminal:
    """The terminal on our standard input, and whose turn it is."""

    def __init__(self, fd: int = 0) -> None:
        self.fd = fd
        self.held_by_command = False

    @property
    def ours(self) -> bool:
        """Whether we are in the foreground of a terminal."""
        try:
            return os.isatty(self.fd) and os.tcgetpgrp(self.fd) == os.getpgrp()
        except OSError:
            return False

    def hand_over(self, process_group: int) -> None:
        """Put the command in the foreground, if we are there."""
        if self.ours:
            self.held_by_command = self._set(process_group)

    def take_back(self) -> None:
        """Put ourselves in the foreground again."""
        if self.held_by_command:
            self._set(os.getpgrp())
            self.held_by_command = False

    def _set(self, process_group: int) -> bool:
        # From the background, this call would stop us by SIGTTOU.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        try:
            os.tcsetpgrp(self.fd, process_group)
            return True
        except (OSError, termios.error):
            return False
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def in_pipeline(fd: int = 1) -> bool:
    """Say whether our output goes to another program, which may want the terminal for itself (a pager)."""
    try:
        return stat.S_ISFIFO(os.fstat(fd).st_mode)
    except OSError:
        return False
