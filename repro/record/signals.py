"""Signals that are sent to us while a command runs: taken from first to last, to be relayed or to hurry us."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Final

RELAYED: Final = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTSTP,
    signal.SIGCONT,
)
_WATCHED: Final = (*RELAYED, signal.SIGWINCH, signal.SIGCHLD)
_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


@dataclass(slots=True, kw_only=True)
class Signals:
    """Signals that were sent to us and are not read yet."""

    fd: int
    """Becomes readable when a signal comes."""
    on_ending: Callable[[], None]
    """Called for a signal that asks us to end; must be safe in a signal handler."""

    def read(self) -> list[int]:
        """Return the signals that came since this was last asked."""
        try:
            return list(os.read(self.fd, 4096))
        except BlockingIOError:
            return []

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Take note; the number itself arrives through the wake-up descriptor."""
        if number in _ENDING:
            self.on_ending()


@contextlib.contextmanager
def watch(on_ending: Callable[[], None]) -> Iterator[Signals]:
    """Take the signals that we relay; the ignored ones stay ignored. Outside the main thread nothing is taken."""
    ours, theirs = socket.socketpair()
    with ours, theirs, contextlib.ExitStack() as undo:
        ours.setblocking(False)
        theirs.setblocking(False)
        signals = Signals(fd=ours.fileno(), on_ending=on_ending)
        if threading.current_thread() is threading.main_thread():
            undo.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False))
            for number in _WATCHED:
                _take(number, signals, undo)
        yield signals


def _take(number: signal.Signals, signals: Signals, undo: contextlib.ExitStack) -> None:
    handler = signal.getsignal(number)
    # An ignored SIGCHLD would let the kernel reap the command before we see how it ended.
    if handler is not signal.SIG_IGN or number == signal.SIGCHLD:
        signal.signal(number, signals.handle)
        undo.callback(signal.signal, number, signal.SIG_DFL if handler is None else handler)
