"""The object store: bytes by their SHA-256, written once, shared by all runs."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Final

from repro.errors import AlteredError, ExecutionError, InconclusiveError
from repro.evidence import canonical
from repro.evidence.plain import open_plain

_CHUNK_BYTES: Final = 1024 * 1024


class Objects:
    """A directory of read-only files `ab/cdef…`, each named by the digest of its content.

    Any number of processes may put and get at the same time: an object appears under its name complete, or not at all.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

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

    def put_file(self, path: Path) -> tuple[str, int]:
        """Store a file's content, hashing what is copied, and return its digest and its size in bytes.

        Raises:
            InconclusiveError: The file changed while it was being read.
            OSError: The file cannot be read.
            ExecutionError: The store cannot be written to, or the disk is full.
        """
        with path.open("rb") as source, self._incoming() as incoming:
            before = _state(source)
            digest, size_bytes = _copy(source, incoming)
            if _state(source) != before:
                raise InconclusiveError(f"{path} changed while it was read", hint="try again when nothing writes to it")
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

    def sync(self, digests: Iterable[str]) -> None:
        """Make objects survive a power failure; `put` leaves that for the moment of sealing, so that it never waits."""
        for digest in digests:
            try:
                descriptor = os.open(self.path(digest), os.O_RDONLY)
            except FileNotFoundError:
                continue
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

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

    def _holds(self, digest: str, size_bytes: int) -> bool:
        """Say whether the object is there in full size; one cut short by a power failure is written anew."""
        try:
            return self.path(digest).lstat().st_size == size_bytes
        except OSError:
            return False

    @contextmanager
    def _incoming(self) -> Iterator[_Incoming]:
        """Open a temporary file, removed on the way out unless `_publish` gave it its name."""
        with _writing():
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=".incoming-", dir=self.root)
        try:
            yield _Incoming(descriptor=descriptor, path=Path(name))
        finally:
            os.close(descriptor)
            Path(name).unlink(missing_ok=True)

    def _publish(self, incoming: _Incoming, digest: str) -> None:
        target = self.path(digest)
        with _writing():
            os.fchmod(incoming.descriptor, 0o444)
            target.parent.mkdir(mode=0o700, exist_ok=True)
            incoming.path.replace(target)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Incoming:
    descriptor: int
    path: Path

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        with _writing():
            while rest:
                rest = rest[os.write(self.descriptor, rest) :]


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ExecutionError(f"cannot write to the object store: {error}") from error


def _copy(source: BinaryIO, target: _Incoming) -> tuple[str, int]:
    hasher, size_bytes = hashlib.sha256(), 0
    while chunk := source.read(_CHUNK_BYTES):
        hasher.update(chunk)
        target.write(chunk)
        size_bytes += len(chunk)
    return f"sha256:{hasher.hexdigest()}", size_bytes


def _state(file: BinaryIO) -> tuple[int, int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
