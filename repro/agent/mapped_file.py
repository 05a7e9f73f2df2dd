"""A file that one process appends to through a shared memory map, so that what was written survives `kill -9`.

It grows by `posix_fallocate`, so that a full disk is an error here and not a SIGBUS later. No file descriptor is kept:
a program that closes descriptors it does not know would otherwise make us write into, or close, a file of its own.
"""

from __future__ import annotations

import mmap
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

FIRST_CHUNK_BYTES = 64 * 1024
LARGEST_CHUNK_BYTES = 4 * 1024 * 1024


class MappedFile:
    """A file, the window that is mapped onto its end, and where in the window the file ends.

    What follows that place is NUL bytes, until the file is cut.
    """

    def __init__(self) -> None:
        self._window: Optional[mmap.mmap] = None
        self._window_fd = -1
        self._path = ""
        self._forget()

    def _forget(self) -> None:
        """Know of no file: the one that was mapped, if any, is left as it is."""
        self._retire()
        self._chunk = FIRST_CHUNK_BYTES // 2
        self._offset = self._position = self._limit = 0

    def _create(self, path: str) -> None:
        """Make the file, and map a first window onto it.

        Raises:
            OSError: It exists, or cannot be made, or the file system cannot do it.
        """
        self._path = path
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        self._grow(0)

    def _grow(self, wanted_bytes: int) -> None:
        """Map a new window onto the file, from the page in which it ends.

        Raises:
            OSError: The file is gone, the disk is full, or the file system cannot do it.
        """
        length = self._offset + self._position
        self._chunk = min(self._chunk * 2, LARGEST_CHUNK_BYTES)
        offset = length - length % mmap.ALLOCATIONGRANULARITY
        size = length + max(self._chunk, wanted_bytes)
        fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.posix_fallocate(fd, 0, size)
            untracked: Any = {"trackfd": False} if sys.version_info >= (3, 13) else {}
            window = mmap.mmap(fd, size - offset, offset=offset, **untracked)
            window_fd = -1 if untracked else self._duplicate_of(fd)
        finally:
            os.close(fd)
        self._retire()
        self._window, self._window_fd = window, window_fd
        self._offset, self._position, self._limit = offset, length - offset, size - offset

    def _duplicate_of(self, fd: int) -> int:
        """Return the descriptor that `mmap` made for itself, as it does before Python 3.13; -1 if it is not found."""
        mine = os.fstat(fd)
        for name in os.listdir("/proc/self/fd"):
            try:
                if int(name) not in (fd, self._window_fd) and os.path.samestat(os.fstat(int(name)), mine):
                    return int(name)
            except OSError:
                continue
        return -1

    def _retire(self) -> None:
        """Give the mapping back, unless that would close a descriptor that somebody else has been given meanwhile."""
        window, self._window, self._limit = self._window, None, 0
        if window is None:
            return
        if sys.version_info < (3, 13):
            try:
                if not os.path.samestat(os.fstat(self._window_fd), os.stat(self._path)):
                    raise OSError
            except OSError:
                _ABANDONED.append(window)
                return
        try:
            window.close()
        except BufferError:  # another thread is writing, where threads run at once
            _ABANDONED.append(window)

    def _cut(self) -> None:
        """Give the mapping back, and cut the file to its true length.

        Raises:
            OSError: The file is gone.
        """
        if self._window is not None:
            length = self._offset + self._position
            self._retire()
            os.truncate(self._path, length)


_ABANDONED: list[mmap.mmap] = []
