"""Digests of files: `sha256:<hex>`, which an auditor checks with `sha256sum`, or `blake3:<hex>`, which is faster.

Both come from libraries: `hashlib`, and `blake3` (the binding of the reference implementation), imported on demand.

How files are read was decided by measurement (2 cores with SHA extensions; 2 GiB warm; 10,000 files of 20 KiB warm):

- A large file is read in pieces into one buffer: SHA-256 takes 1.10 s, BLAKE3 0.20 s. A second thread that reads ahead
  gains nothing (1.11 to 1.44 s): the kernel reads ahead by itself, further once it knows that we read in order. A map
  into memory gains 5 % and is refused: a file that is cut short while it is mapped kills the process with SIGBUS.
- Several large files are hashed side by side, one a core: both libraries let go of Python's lock.
- Small files that are in the page cache are hashed by one thread: with a pool they only wait for Python's lock (0.19 s
  alone, 0.45 s in a pool). Once hashing mostly waits, for a disk or a server, a pool keeps several requests in flight,
  and has the kernel read some files ahead: 50,000 files of 40 kB are read in 4 s, not in 9.
- Holes are read like anything else, but for large files that are nearly nothing else: there zeros are hashed without
  reading them (4 GiB of holes: SHA-256 2.0 s, not 3.4 to 11 s, and the page cache is left alone), after an `fsync`,
  because file systems have been known to report holes where data were still to be written.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from repro.errors import InconclusiveError, UsageError

if TYPE_CHECKING:
    from typing import Protocol

    class _Hasher(Protocol):
        def update(self, data: bytes | memoryview, /) -> object: ...

        def hexdigest(self) -> str: ...


Algorithm = Literal["sha256", "blake3"]
AnyPath = bytes | str | Path

_DIGEST: Final = re.compile(r"(sha256|blake3):[0-9a-f]{64}")
_PIECE_BYTES: Final = 1024 * 1024
_PARALLEL_PIECE_BYTES: Final = 8 * 1024 * 1024
"""Enough for BLAKE3 to share among cores."""
LARGE_BYTES: Final = 1024 * 1024
READ_AHEAD_BYTES: Final = 1024 * 1024
"""Of each file: the rest of a large one is read ahead by the kernel itself."""
_SPARSE_BYTES: Final = 256 * 1024 * 1024
_SPARSE_FACTOR: Final = 8
"""A file of that size or more is sparse if it takes up less than an eighth of it."""
_TELL_SECONDS: Final = 0.25
GIVEN_UP: Final = "it was not hashed to the end: hashing was given up"
"""The error of files that were not hashed because somebody gave up."""
_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_KINDS: Final = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe (FIFO)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of hashing one file: a digest, or an error."""

    digest: str | None = None
    size_bytes: int = 0
    """How many bytes were hashed."""
    about: os.stat_result | None = None
    """The file as it stood before and after it was read; what `StatCache.remember` wants."""
    error: str | None = None
    """Why there is no digest: a sentence that begins with "it"."""


def algorithm_of(digest: str) -> Algorithm:
    """Return the algorithm that a digest names.

    Raises:
        ValueError: This is not a digest.
    """
    found = _DIGEST.fullmatch(digest)
    if found is None:
        raise ValueError(f"{digest[:100]!r} is not a digest (sha256: or blake3: and 64 hexadecimal digits)")
    return "sha256" if found[1] == "sha256" else "blake3"


def is_digest(text: str) -> bool:
    """Say whether text is `sha256:` or `blake3:` and 64 lower-case hexadecimal digits."""
    return _DIGEST.fullmatch(text) is not None


def digest_file(path: AnyPath, algorithm: Algorithm = "sha256") -> tuple[str, int]:
    """Return a regular file's digest and its size in bytes.

    Raises:
        OSError: It cannot be read.
        InconclusiveError: It is no regular file, or it changed while it was read, twice.
        UsageError: The algorithm is not installed.
    """
    try:
        found = stable(path, library_of(algorithm), Watch(), None)
    except NotHashedError as error:
        raise InconclusiveError(f"{os.fsdecode(path)} has no digest: {error}") from None
    assert found is not None and found.digest is not None  # noqa: S101, PT018 - with no limit in size
    return found.digest, found.size_bytes


class NotHashedError(Exception):
    """There is no digest; the text says why."""


class Watch:
    """Counts what was hashed, tells of it now and then, and asks whether to go on. For several threads at once."""

    def __init__(
        self, progress: Callable[[int], None] | None = None, give_up: Callable[[], bool] | None = None
    ) -> None:
        self._progress = progress
        self._give_up = give_up
        self._hashed_bytes = 0
        self._told_at = time.monotonic()
        self._lock = threading.Lock()

    def hashed(self, size_bytes: int) -> None:
        """Count some more bytes."""
        if self._progress is None:
            return
        with self._lock:
            self._hashed_bytes += size_bytes
            now = time.monotonic()
            if now - self._told_at < _TELL_SECONDS:
                return
            self._told_at = now
        self._progress(self._hashed_bytes)

    def stop(self) -> None:
        """Let what is under way end at its next `check`."""
        self._give_up = lambda: True

    def check(self) -> None:
        """Go on, or not.

        Raises:
            NotHashedError: Somebody gave up.
        """
        if self._give_up is not None and self._give_up():
            raise NotHashedError(GIVEN_UP)


@dataclass(frozen=True, slots=True)
class Library:
    """Where hashers of one algorithm come from."""

    algorithm: Algorithm
    new: Callable[[], _Hasher]
    new_parallel: Callable[[], _Hasher]
    """A hasher that shares large pieces among cores, where the algorithm can."""
    piece_bytes: int
    """How much of a large file to read at a time."""

    def digest(self, hasher: _Hasher) -> str:
        """Return the digest as text."""
        return f"{self.algorithm}:{hasher.hexdigest()}"


def library_of(algorithm: Algorithm) -> Library:
    """Return where hashers of an algorithm come from.

    Raises:
        UsageError: The algorithm is not installed.
    """
    if algorithm == "sha256":
        return Library(algorithm, hashlib.sha256, hashlib.sha256, _PIECE_BYTES)
    try:
        from blake3 import blake3
    except ImportError as error:
        hint = 'install it (pip install blake3), or set hash = "sha256" in the project\'s settings'
        raise UsageError("the settings ask for BLAKE3, and the package blake3 is not installed", hint=hint) from error
    return Library(algorithm, blake3, lambda: blake3(max_threads=blake3.AUTO), _PARALLEL_PIECE_BYTES)


def stable(path: AnyPath, library: Library, watch: Watch, limit_bytes: int | None) -> Outcome | None:
    """Hash a file that somebody may be writing to: try twice, then give up.

    Args:
        path: The file; links are followed.
        library: Of the algorithm.
        watch: Told of what is hashed, and asked whether to go on.
        limit_bytes: For a file that is larger, `None` is returned.

    Raises:
        OSError: It cannot be read.
        NotHashedError: It is no regular file, it keeps changing, or nobody wants it any more.
    """
    for _ in range(2):
        watch.check()
        descriptor = open_regular(path)
        try:
            about = os.fstat(descriptor)
            if limit_bytes is not None and about.st_size > limit_bytes:
                return None
            digest, size_bytes = _hash(descriptor, about, library, watch)
            if moment(os.fstat(descriptor)) == moment(about):
                return Outcome(digest=digest, size_bytes=size_bytes, about=about)
        finally:
            os.close(descriptor)
    raise NotHashedError("it changed while it was read, twice")


def open_regular(path: AnyPath) -> int:
    """Open a regular file for reading, never waiting for one that is not, and return its descriptor.

    Raises:
        OSError: It cannot be opened, or is no regular file.
    """
    _refuse_others(os.stat(path), path)  # noqa: PTH116 - bytes; first of all, because to open a device may do something
    descriptor = os.open(path, _FLAGS)
    try:
        _refuse_others(os.fstat(descriptor), path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def read_ahead(paths: Sequence[AnyPath], open_file: Callable[[AnyPath], int] | None = None) -> None:
    """Have the kernel begin to read regular files that will be read in a moment, so that the disk is asked for many.

    Nothing happens if the first one is in memory; what cannot be opened is passed over: whoever reads it says why.

    Args:
        paths: The files.
        open_file: How to open one: `open_regular`, unless they are known to be regular files.
    """
    open_file = open_file or open_regular
    for number, path in enumerate(paths):
        try:
            descriptor = open_file(path)
        except OSError:
            continue
        try:
            if number == 0 and _is_in_memory(descriptor) is True:
                return
            os.posix_fadvise(descriptor, 0, READ_AHEAD_BYTES, os.POSIX_FADV_WILLNEED)
        except OSError:
            continue
        finally:
            os.close(descriptor)


def has_to_be_waited_for(path: AnyPath) -> bool:
    """Say whether a regular file is known not to be in memory; of some file systems that cannot be known."""
    try:
        descriptor = open_regular(path)
    except OSError:
        return False
    try:
        return _is_in_memory(descriptor) is False
    finally:
        os.close(descriptor)


def _is_in_memory(descriptor: int) -> bool | None:
    """Say whether a file's first byte can be had without waiting; `None` where the file system cannot tell."""
    try:
        os.preadv(descriptor, [bytearray(1)], 0, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _refuse_others(about: os.stat_result, path: AnyPath) -> None:
    if not stat.S_ISREG(about.st_mode):
        kind = _KINDS.get(stat.S_IFMT(about.st_mode), "something else")
        raise OSError(errno.EINVAL, f"{kind}, not a regular file", os.fsdecode(path))


def _hash(descriptor: int, about: os.stat_result, library: Library, watch: Watch) -> tuple[str, int]:
    if about.st_size > LARGE_BYTES:
        return _hash_large(descriptor, about, library, watch)
    hasher, size_bytes = library.new(), 0
    while data := os.read(descriptor, (about.st_size or 65535) + 1):  # files of the kernel have a size of 0
        hasher.update(data)
        size_bytes += len(data)
        if size_bytes == about.st_size:
            break  # if there is more now, the look at the file afterwards tells
    watch.hashed(size_bytes)
    return library.digest(hasher), size_bytes


def _hash_large(descriptor: int, about: os.stat_result, library: Library, watch: Watch) -> tuple[str, int]:
    hasher, piece = library.new_parallel(), memoryview(bytearray(library.piece_bytes))
    size_bytes = 0
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    if about.st_size >= _SPARSE_BYTES and about.st_blocks * 512 * _SPARSE_FACTOR < about.st_size:
        size_bytes = _hash_sparse(descriptor, about.st_size, hasher, piece, watch)
    while count := os.preadv(descriptor, [piece], size_bytes):
        hasher.update(piece[:count])
        size_bytes = _count(size_bytes, count, watch)
    return library.digest(hasher), size_bytes


def _hash_sparse(descriptor: int, end: int, hasher: _Hasher, piece: memoryview[int], watch: Watch) -> int:
    """Hash a file whose holes are not read, up to an offset, and return how far it came."""
    os.fsync(descriptor)
    zeros, offset = bytes(len(piece)), 0
    while offset < end:
        data_at = _data_from(descriptor, offset, end)
        while offset < data_at:
            count = min(data_at - offset, len(zeros))
            hasher.update(memoryview(zeros)[:count])
            offset = _count(offset, count, watch)
        hole_at = min(os.lseek(descriptor, offset, os.SEEK_HOLE), end) if offset < end else end
        while offset < hole_at:
            count = os.preadv(descriptor, [piece[: min(hole_at - offset, len(piece))]], offset)
            if count == 0:
                return offset  # it was cut short: the look at the file afterwards tells
            hasher.update(piece[:count])
            offset = _count(offset, count, watch)
    return offset


def _data_from(descriptor: int, offset: int, end: int) -> int:
    """Return where the next data begin: `end` if there are none."""
    try:
        return min(os.lseek(descriptor, offset, os.SEEK_DATA), end)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return end
        raise


def _count(offset: int, count: int, watch: Watch) -> int:
    watch.hashed(count)
    watch.check()
    return offset + count


def moment(about: os.stat_result) -> tuple[int, int, int]:
    """Return what a change of a file's content changes: its size, and its times in nanoseconds."""
    return about.st_size, about.st_mtime_ns, about.st_ctime_ns
