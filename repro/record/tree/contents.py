"""Keep the content of files: read each once, hash it, and put its bytes into the object store."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from repro.errors import InconclusiveError
from repro.evidence import canonical
from repro.evidence.hashing import AnyPath
from repro.evidence.objects import Objects

IN_MEMORY_BYTES: Final = 1024 * 1024
_LFS_POINTER: Final = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:ext-[^\n]*\n)*oid sha256:([0-9a-f]{64})\nsize [0-9]+\n"
)
"""The whole of a Git LFS pointer file, as its specification, version 1, has it."""
_MAX_POINTER_BYTES: Final = 1024


class NotKeptError(Exception):
    """The content of a file was not kept; the text says why."""


@dataclass(slots=True)
class Content:
    """What a path holds. Like `Read` not frozen: there are as many as files, and each would take twice as long."""

    kind: Literal["file", "symlink"]
    mode: int
    size_bytes: int
    sha256: str
    blob_ids: tuple[str, ...]
    """What git would call these bytes, with the hash functions that were asked for."""
    lfs_oid: str | None = None
    """The SHA-256 that a Git LFS pointer names, where these bytes are one."""
    mtime_ns: int = 0


@dataclass(slots=True)
class Read:
    """What was read of a path, not stored yet."""

    content: Content
    about: os.stat_result
    data: bytes | None
    """The bytes; `None` of a large file, which is read again when it is stored."""


def keep(objects: Objects, full: bytes, limit_bytes: int | None) -> Content:
    """Read one file or symbolic link and store its bytes.

    Args:
        objects: Where to.
        full: Its absolute path.
        limit_bytes: The most that a regular file may have; `None` for any size.

    Raises:
        FileNotFoundError: It is not there.
        NotKeptError: It is no file, too large, unreadable, or keeps changing.
    """
    found = read(full, limit_bytes, ())
    store(objects, full, found)
    return found.content


def store(objects: Objects, full: bytes, found: Read) -> None:
    """Store the bytes of a file that was read.

    Raises:
        NotKeptError: A large file is not any more what was read.
    """
    try:
        if found.data is not None:
            objects.put(found.data)
        elif objects.put_file(Path(os.fsdecode(full)))[0] != found.content.sha256:
            raise NotKeptError("it changed while it was read")
    except InconclusiveError:
        raise NotKeptError("it changed while it was read") from None
    except OSError as error:
        raise NotKeptError(f"it is not readable ({error.strerror})") from error


def read(
    full: bytes, limit_bytes: int | None, algorithms: tuple[str, ...], about: os.stat_result | None = None
) -> Read:
    """Read and hash one file or symbolic link.

    Args:
        full: Its absolute path.
        limit_bytes: The most that a regular file may have; `None` for any size.
        algorithms: The hash functions to find git's name of it with: `sha1`, `sha256`.
        about: What `lstat` says of it, where that was asked already.

    Raises: as `keep`.
    """
    try:
        about = about or os.lstat(full)
        if stat.S_ISLNK(about.st_mode):
            return _link(os.readlink(full), about, algorithms)  # noqa: PTH115 - bytes
        if not stat.S_ISREG(about.st_mode):
            raise NotKeptError("it is not a regular file")
        if limit_bytes is not None and about.st_size > limit_bytes:
            raise NotKeptError(f"it is untracked and too large ({about.st_size} bytes, {limit_bytes} are left)")
        return _stable(full, algorithms)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(full) from None
    except OSError as error:
        raise NotKeptError(f"it is not readable ({error.strerror})") from error


def _link(target: bytes, about: os.stat_result, algorithms: tuple[str, ...]) -> Read:
    mode, ids = stat.S_IMODE(about.st_mode), blob_ids(target, algorithms)
    content = Content("symlink", mode, len(target), canonical.digest(target), ids, mtime_ns=about.st_mtime_ns)
    return Read(content, about, target)


def _stable(full: bytes, algorithms: tuple[str, ...]) -> Read:
    """Read a file that may be written to at this moment: try twice, then give up."""
    for _ in range(2):
        found = _file(full, algorithms)
        if found is not None:
            return found
    raise NotKeptError("it changed while it was read")


def open_plain(full: AnyPath) -> int:
    """Open what was a regular file when it was looked at; a FIFO that took its place since is not waited for."""
    return os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _file(full: bytes, algorithms: tuple[str, ...]) -> Read | None:
    """Read a file once; `None` if it changed meanwhile."""
    descriptor = open_plain(full)
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise NotKeptError("it is not a regular file")
        large = about.st_size > IN_MEMORY_BYTES
        data = None if large else _read(descriptor, about.st_size)
        sha256, ids = _digests(descriptor, about.st_size, algorithms) if data is None else _of(data, algorithms)
        if _moment(os.fstat(descriptor)) != _moment(about):
            return None
    finally:
        os.close(descriptor)
    mode, size_bytes = stat.S_IMODE(about.st_mode), about.st_size if data is None else len(data)
    oid = None if data is None else _lfs_oid(data)
    return Read(Content("file", mode, size_bytes, sha256, ids, oid, about.st_mtime_ns), about, data)


def _read(descriptor: int, size_bytes: int) -> bytes:
    """Read to the end; one call where the size is right, which it nearly always is."""
    data = os.read(descriptor, size_bytes + 1)
    if len(data) == size_bytes:
        return data
    pieces = [data]
    while piece := os.read(descriptor, 1 << 20):
        pieces.append(piece)
    return b"".join(pieces)


def _moment(about: os.stat_result) -> tuple[int, int, int, int]:
    return about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns


def _lfs_oid(data: bytes) -> str | None:
    found = _LFS_POINTER.fullmatch(data) if len(data) <= _MAX_POINTER_BYTES else None
    return found[1].decode("ascii") if found else None


def _of(data: bytes, algorithms: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    return canonical.digest(data), blob_ids(data, algorithms)


def blob_ids(data: bytes, algorithms: tuple[str, ...] = ("sha1", "sha256")) -> tuple[str, ...]:
    """Return what git calls these bytes, with each of these hash functions."""
    hashers = [_hasher(name, len(data)) for name in algorithms]
    for hasher in hashers:
        hasher.update(data)
    return tuple(hasher.hexdigest() for hasher in hashers)


def _hasher(name: str, size_bytes: int) -> hashlib._Hash:
    return hashlib.new(name, b"blob %d\0" % size_bytes, usedforsecurity=False)


def _digests(descriptor: int, size_bytes: int, algorithms: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Hash a large file in one pass."""
    hashers = [hashlib.sha256(), *(_hasher(name, size_bytes) for name in algorithms)]
    while chunk := os.read(descriptor, 1 << 20):
        for hasher in hashers:
            hasher.update(chunk)
    sha256, *ids = (hasher.hexdigest() for hasher in hashers)
    return f"sha256:{sha256}", tuple(ids)
