"""The object store: bytes by their SHA-256, written once, shared by all runs."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import itertools
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Final

from repro.errors import AlteredError, ExecutionError, InconclusiveError
from repro.evidence import canonical, hashing
from repro.evidence.hashing import AnyPath
from repro.evidence.plain import open_plain

_CHUNK_BYTES: Final = 1024 * 1024
_CLONE: Final = 0x40049409
"""`FICLONE` of linux/fs.h: share the blocks of another file, on file systems that can (Btrfs, XFS, bcachefs)."""
_SYNC_EACH: Final = 32
_LEAST_BYTES: Final = 16 * 1024 * 1024
"""Room for the record of a small run: its manifest, its event logs, its lock."""
_ABANDONED_SECONDS: Final = 86_400
_INCOMING: Final = ".incoming-"
_MAKE_ROOM: Final = "make room there, or set REPRO_HOME to a place on a larger disk"
_SETTLED_SECONDS: Final = 600
"""The kernel writes back what is older than half a minute; ten minutes leave room for a slow disk."""


class Objects:
    """A directory of read-only files `ab/cdef…`, each named by the digest of its content.

    Any number of processes may put and get at the same time: an object appears under its name complete, or not at all.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._text_root = os.fspath(root)
        self._token, self._numbers = os.urandom(6).hex(), itertools.count()

    def path(self, digest: str) -> Path:
        """Return where an object lies, whether it is there or not.

        Raises:
            AlteredError: This is not a digest.
        """
        if not canonical.is_digest(digest):
            raise AlteredError(f"{digest[:100]!r} is not a digest (sha256: and 64 hexadecimal digits)")
        name = digest.removeprefix("sha256:")
        return self.root / name[:2] / name[2:]

    def put(self, data: bytes) -> str:
        """Store bytes and return their digest.

        Raises:
            ExecutionError: The store cannot be written to, or the disk is full.
        """
        digest = canonical.digest(data)
        if not self._holds(digest, len(data)):
            with self._incoming() as incoming:
                incoming.write(data)
                self._publish(incoming, digest)
        return digest

    def put_file(self, path: AnyPath) -> tuple[str, int]:
        """Store a file's content, hashing what is copied, and return its digest and its size in bytes.

        Raises:
            InconclusiveError: The file changed while it was being read.
            OSError: The file cannot be read, or is no regular file.
            ExecutionError: The store cannot be written to, or the disk is full.
        """
        source = hashing.open_regular(path)
        try:
            about = os.fstat(source)
            digest, size_bytes = self._put_open(source, about)
            if digest is None or hashing.moment(os.fstat(source)) != hashing.moment(about):
                hint = "try again when nothing writes to it"
                raise InconclusiveError(f"{os.fsdecode(path)} changed while it was read", hint=hint)
            return digest, size_bytes
        finally:
            os.close(source)

    def _put_open(self, source: int, about: os.stat_result) -> tuple[str | None, int]:
        """Store an open file. Nothing is kept of one that changes: what is copied is what is hashed."""
        if about.st_size <= _CHUNK_BYTES and (about.st_size or not os.pread(source, 1, 0)):  # or a file of the kernel
            data = os.read(source, about.st_size + 1)
            unchanged = len(data) == about.st_size and hashing.moment(os.fstat(source)) == hashing.moment(about)
            return (self.put(data) if unchanged else None), len(data)
        with self._incoming() as incoming:
            if incoming.clone(source):  # as it is at one moment, whoever writes to it
                digest, size_bytes = _copy(incoming.descriptor, None)
            else:
                digest, size_bytes = _copy(source, incoming)
            if hashing.moment(os.fstat(source)) != hashing.moment(about):
                return None, size_bytes
            if not self._holds(digest, size_bytes):
                self._publish(incoming, digest)
        return digest, size_bytes

    def get(self, digest: str) -> bytes:
        """Return the bytes of an object after checking them.

        Raises:
            InconclusiveError: There is no such object.
            AlteredError: Its content is not what its name says.
        """
        with self._open(digest) as file:
            data = file.read()
        self._compare(digest, canonical.digest(data))
        return data

    def verify(self, digest: str) -> None:
        """Check that an object is there and is what its name says, without holding it in memory.

        Raises:
            InconclusiveError: There is no such object.
            AlteredError: Its content is not what its name says.
        """
        self._compare(digest, self.digest(digest))

    def digest(self, digest: str) -> str:
        """Return the digest that the content of an object really has.

        Raises:
            InconclusiveError: There is no such object.
            AlteredError: It is no plain file.
        """
        with self._open(digest) as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"

    def require_room(self) -> None:
        """Find out before a command starts whether the store can be written to; remove what killed recorders left.

        Raises:
            ExecutionError: It cannot be written to, or its disk has less than 16 MiB left.
        """
        with self._incoming() as incoming:
            incoming.write(bytes(4096))
            room = os.fstatvfs(incoming.descriptor)
        self._remove_abandoned()
        left_bytes = room.f_bavail * room.f_frsize
        if room.f_blocks and left_bytes < _LEAST_BYTES:  # some file systems of servers say nothing of their size
            raise ExecutionError(
                f"the disk of the object store is full: {left_bytes} bytes are left for {self.root}", hint=_MAKE_ROOM
            )

    def _remove_abandoned(self) -> None:
        with suppress(OSError), os.scandir(self.root) as entries:
            for entry in entries:
                if entry.name.startswith(_INCOMING) and time.time() - entry.stat().st_ctime > _ABANDONED_SECONDS:
                    with suppress(OSError):
                        os.unlink(entry.path)  # noqa: PTH108 - from scandir

    def sync(self, digests: Iterable[str]) -> None:
        """Make objects survive a power failure; `put` leaves that for the moment of sealing, so that it never waits.

        What was written long ago is on the disk already. Many objects are synchronised with their whole file system in
        one go: an `fsync` each would make the disk write its journal each time.

        Raises:
            ExecutionError: The disk does not take them.
        """
        recent = [path for path in (self._text(digest) for digest in digests) if _is_recent(path)]
        with _writing():
            if len(recent) <= _SYNC_EACH or not _sync_file_system(self.root):
                for path in recent:
                    _sync_file(path)

    def _open(self, digest: str) -> BufferedReader:
        try:
            return open_plain(self.path(digest), self._member(digest))
        except FileNotFoundError:
            hint = "restore it from a backup of the store"
            raise InconclusiveError(f"{self._member(digest)} is missing", hint=hint) from None

    def _compare(self, expected: str, found: str) -> None:
        if found != expected:
            raise AlteredError(f"{self._member(expected)} was altered: it has the digest {found}")

    def _member(self, digest: str) -> str:
        """Return an object's path as people read it."""
        return self.path(digest).relative_to(self.root.parent).as_posix()

    def _text(self, digest: str) -> str:
        """Return an object's path as text: `path` takes as long as to store a small object."""
        return f"{self._text_root}/{digest[7:9]}/{digest[9:]}"

    def _holds(self, digest: str, size_bytes: int) -> bool:
        """Say whether the object is there in full size; one cut short by a power failure is written anew."""
        try:
            about = os.lstat(self._text(digest))
        except OSError:
            return False
        return about.st_size == size_bytes and stat.S_ISREG(about.st_mode)

    @contextmanager
    def _incoming(self) -> Iterator[_Incoming]:
        """Open a temporary file, removed on the way out unless `_publish` gave it its name."""
        with _writing():
            incoming = self._new_incoming()
        try:
            yield incoming
        finally:
            os.close(incoming.descriptor)
            if not incoming.published:
                with suppress(OSError):
                    os.unlink(incoming.path)  # noqa: PTH108 - as below

    def _new_incoming(self) -> _Incoming:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        # Next to the folders, not in them: file systems place a new file near its folder, and 256 places are slower.
        path = f"{self._text_root}/{_INCOMING}{self._token}-{os.getpid()}-{next(self._numbers)}"
        try:
            return _Incoming(descriptor=os.open(path, flags, 0o600), path=path)
        except FileNotFoundError:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            return _Incoming(descriptor=os.open(path, flags, 0o600), path=path)

    def _publish(self, incoming: _Incoming, digest: str) -> None:
        target = self._text(digest)
        with _writing():
            os.fchmod(incoming.descriptor, 0o444)
            try:
                os.rename(incoming.path, target)  # noqa: PTH104 - text, see _text
            except FileNotFoundError:
                Path(target).parent.mkdir(mode=0o700, exist_ok=True)
                os.rename(incoming.path, target)  # noqa: PTH104 - text, see _text
        incoming.published = True


@dataclass(slots=True, kw_only=True)
class _Incoming:
    descriptor: int
    path: str
    published: bool = False

    def write(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        with _writing():
            while rest:
                rest = rest[os.write(self.descriptor, rest) :]

    def clone(self, source: int) -> bool:
        """Share the blocks of another file, where the file system can."""
        try:
            fcntl.ioctl(self.descriptor, _CLONE, source)
        except OSError:
            return False
        return True


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "check the disk and the permissions of the store, or set REPRO_HOME to another place"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = _MAKE_ROOM
        raise ExecutionError(f"cannot write to the object store: {error}", hint=hint) from error


def _copy(source: int, target: _Incoming | None) -> tuple[str, int]:
    """Hash an open file from its beginning, and copy what is hashed."""
    hasher, size_bytes, piece = hashlib.sha256(), 0, memoryview(bytearray(_CHUNK_BYTES))
    while count := os.preadv(source, [piece], size_bytes):
        hasher.update(piece[:count])
        if target is not None:
            target.write(piece[:count])
        size_bytes += count
    return f"sha256:{hasher.hexdigest()}", size_bytes


def _is_recent(path: str) -> bool:
    try:
        return time.time() - os.lstat(path).st_ctime < _SETTLED_SECONDS
    except OSError:
        return False


def _sync_file(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_file_system(folder: Path) -> bool:
    """Write back all that is held in memory for a file system; say whether that was possible."""
    import ctypes

    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return bool(ctypes.CDLL(None).syncfs(descriptor) == 0)
    except AttributeError:  # a C library without it
        return False
    finally:
        os.close(descriptor)
