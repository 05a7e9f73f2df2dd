"""Copy a command's output through to ours, byte for byte, and keep it.

Each stream has a thread of its own, because a write to a terminal or a slow pipe may block for as long as its reader
likes, and a signal must still be relayed meanwhile. Where ours is a terminal the command gets a pseudo-terminal of the
same size, so that progress bars and colours stay; its output processing is off: the bytes kept are the bytes written.
"""

from __future__ import annotations

import errno
import fcntl
import os
import selectors
import struct
import termios
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from repro.evidence.objects import Objects

KEEP_BYTES: Final = 64 * 1024 * 1024
DRAIN_SECONDS: Final = 0.5
_CHUNK_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a launcher shall connect the command's output to."""

    stdout_is_terminal: bool
    stderr_is_terminal: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One stream's two ends: ours to read, the command's to write."""

    read_fd: int
    write_fd: int
    is_terminal: bool


def open_channel(is_terminal: bool) -> Channel:
    """Open a pseudo-terminal or a pipe for one stream."""
    if not is_terminal:
        read_fd, write_fd = os.pipe()
        return Channel(read_fd=read_fd, write_fd=write_fd, is_terminal=False)
    read_fd, write_fd = os.openpty()
    state = termios.tcgetattr(write_fd)
    state[1] &= ~termios.OPOST
    termios.tcsetattr(write_fd, termios.TCSANOW, state)
    return Channel(read_fd=read_fd, write_fd=write_fd, is_terminal=True)


def window_size(fd: int) -> bytes | None:
    """Return a terminal's rows and columns as the kernel packs them, or `None` where there is no terminal."""
    try:
        return fcntl.ioctl(fd, termios.TIOCGWINSZ, b"\0" * 8)
    except OSError:
        return None


class Copier:
    """Copies one stream in a thread, keeps its first bytes in a file, and counts all of them."""

    def __init__(self, source_fd: int, target_fd: int, kept_at: Path, *, keep_bytes: int = KEEP_BYTES) -> None:
        self.size_bytes = 0
        self.kept_bytes = 0
        self.keeping_failed: str | None = None
        self.cut_off = False
        """Another process held the stream open after the command had ended, so what it wrote later was not seen."""
        self.kept_at = kept_at
        self._source_fd = source_fd
        self._target_fd = target_fd
        self._keep_bytes = keep_bytes
        self._kept = kept_at.open("wb", buffering=0)
        self._stop_read, self._stop_write = os.pipe()
        self._thread = threading.Thread(target=self._run, name=f"copy-{target_fd}", daemon=True)

    def start(self) -> None:
        """Begin to copy."""
        self._thread.start()

    def follow_size(self) -> bool:
        """Give the command's pseudo-terminal the size of ours; return whether it changed."""
        ours, its = window_size(self._target_fd), window_size(self._source_fd)
        if ours is None or its is None or ours == its or struct.unpack("HHHH", ours)[:2] == (0, 0):
            return False
        fcntl.ioctl(self._source_fd, termios.TIOCSWINSZ, ours)
        return True

    def finish(self) -> None:
        """Deliver what the command wrote before it ended, wait a moment for others who hold the stream, and close."""
        os.close(self._stop_write)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._copy()
        finally:
            os.close(self._source_fd)
            os.close(self._stop_read)
            self._kept.close()

    def _copy(self) -> None:
        deadline: float | None = None
        os.set_blocking(self._source_fd, False)
        with selectors.DefaultSelector() as selector:
            selector.register(self._source_fd, selectors.EVENT_READ)
            selector.register(self._stop_read, selectors.EVENT_READ)
            while True:
                patience = None if deadline is None else max(0.0, deadline - time.monotonic())
                ready = {key.fd for key, _ in selector.select(patience)}
                if self._stop_read in ready:
                    selector.unregister(self._stop_read)
                    deadline = self._deliver_pending()
                elif self._source_fd in ready and not self._pass_on(_CHUNK_BYTES):
                    return
                if deadline is not None and time.monotonic() >= deadline:
                    self.cut_off = True
                    return

    def _deliver_pending(self) -> float:
        """Pass on all that the command left in the pipe, however slow our reader is; return when to stop listening."""
        pending = struct.unpack("i", fcntl.ioctl(self._source_fd, termios.FIONREAD, b"\0" * 4))[0]
        while pending > 0:
            before = self.size_bytes
            if not self._pass_on(min(pending, _CHUNK_BYTES)) or self.size_bytes == before:
                break
            pending -= self.size_bytes - before
        return time.monotonic() + DRAIN_SECONDS

    def _pass_on(self, limit_bytes: int) -> bool:
        """Copy one piece; return whether the stream goes on."""
        try:
            data = os.read(self._source_fd, limit_bytes)
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno == errno.EIO:  # the other end of a pseudo-terminal is closed
                return False
            raise
        if not data:
            return False
        self.size_bytes += len(data)
        self._keep(data)
        return self._write(data)

    def _keep(self, data: bytes) -> None:
        room = self._keep_bytes - self.kept_bytes
        if room <= 0 or self.keeping_failed:
            return
        view = memoryview(data)[:room]
        try:
            while view:
                written = self._kept.write(view) or 0
                self.kept_bytes += written
                view = view[written:]
        except OSError as error:
            self.keeping_failed = error.strerror or str(error)

    def _write(self, data: bytes) -> bool:
        """Write to our own stream; when its reader is gone, close the command's too, as if it had been alone."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._target_fd, view) :]
            except BlockingIOError:  # somebody made our stream non-blocking
                _wait_writable(self._target_fd)
            except OSError:
                return False
        return True


def _wait_writable(fd: int) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_WRITE)
        selector.select()


def digest_kept(copier: Copier, objects: Objects) -> str:
    """Store what was kept, and return its digest."""
    return objects.put_file(copier.kept_at)[0]
