"""Describe the libraries and programs of a run, and remember it: they seldom change, and some are huge."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from repro.evidence.canonical import encode_path
from repro.evidence.model import SharedObject
from repro.record import statebook
from repro.record.software import elf, owners

_VERSION: Final = 1
_CHUNK_BYTES: Final = 4 * 1024 * 1024
_MAX_REMEMBERED: Final = 20_000
_SETTLED_SECONDS: Final = 2.0
"""A file that was written later than this before we read it may change again within one tick of its clock."""

State = tuple[int, int, int, int, int]
"""Device, inode, size, modification and change time: as long as these stay, the content does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    state: State
    sha256: str | None
    build_id: str | None
    owner: str | None


class Describer:
    """Makes the rows of shared objects; not for two threads at a time.

    Args:
        cache: The directory that may be dropped at will.
        give_up: Asked while a large file is hashed: whether to stop.
    """

    small_bytes = 32 * 1024 * 1024
    """Files up to this size are hashed whether we should give up or not: it takes some 20 ms."""

    def __init__(self, cache: Path, give_up: Callable[[], bool]) -> None:
        self.rows: dict[bytes, SharedObject] = {}
        self.unreadable: set[bytes] = set()
        self._file = cache / "libraries" / f"{_VERSION}.json"
        self._give_up = give_up
        self._known = _load(self._file)
        self._changed = False

    def add(self, paths: Iterable[bytes]) -> None:
        """Describe those files that are ELF files; the others are left out."""
        fresh: dict[bytes, tuple[os.stat_result, str | None]] = {}
        for path in paths:
            if path in self.rows or (about := self._stat(path)) is None:
                continue
            known = self._known.get(path)
            if known is not None and known.state == _state(about):
                self.rows[path] = _row(path, about, known)
            else:
                self._look(path, about, fresh)
        owned = owners.owners(fresh) if fresh else {}
        for path, (about, build_id) in fresh.items():
            sha256 = self._hash(Path(os.fsdecode(path)), about)
            known = _Known(state=_state(about), sha256=sha256, build_id=build_id, owner=owned.get(path))
            self.rows[path] = _row(path, about, known)
            self._remember(path, about, known)

    def save(self) -> None:
        """Keep what was learned; concurrent recorders overwrite each other whole, and lose time, nothing else."""
        if not self._changed:
            return
        newest = list(self._known.items())[-_MAX_REMEMBERED:]
        rows = {path.hex(): [*known.state, known.sha256, known.build_id, known.owner] for path, known in newest}
        statebook.write(self._file, json.dumps(rows).encode())

    def _stat(self, path: bytes) -> os.stat_result | None:
        try:
            about = os.stat(path)  # noqa: PTH116 - a path of bytes
        except OSError:
            self.unreadable.add(path)
            return None
        return about if stat.S_ISREG(about.st_mode) else None

    def _look(self, path: bytes, about: os.stat_result, fresh: dict[bytes, tuple[os.stat_result, str | None]]) -> None:
        try:
            fresh[path] = about, elf.build_id(Path(os.fsdecode(path)))
        except OSError:
            self.unreadable.add(path)
        except ValueError:
            pass  # a script, or data

    def _remember(self, path: bytes, about: os.stat_result, known: _Known) -> None:
        settled = time.time() - max(about.st_mtime, about.st_ctime) > _SETTLED_SECONDS
        if settled and known.sha256 is not None:
            self._known.pop(path, None)  # so that it becomes the newest
            self._known[path] = known
            self._changed = True

    def _hash(self, file: Path, about: os.stat_result) -> str | None:
        digest = hashlib.sha256()
        try:
            with file.open("rb", buffering=0) as stream:
                while chunk := stream.read(_CHUNK_BYTES):
                    if about.st_size > self.small_bytes and self._give_up():
                        return None
                    digest.update(chunk)
        except OSError:
            return None
        return f"sha256:{digest.hexdigest()}"


def _row(path: bytes, about: os.stat_result, known: _Known) -> SharedObject:
    return SharedObject(
        path=encode_path(path),
        build_id=known.build_id,
        size_bytes=about.st_size,
        sha256=known.sha256,
        owner=known.owner,
    )


def _state(about: os.stat_result) -> State:
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns


def _load(file: Path) -> dict[bytes, _Known]:
    """Return what was remembered; a cache that cannot be read is none."""
    try:
        kept = json.loads(file.read_bytes())
        return {bytes.fromhex(path): _remembered(*row) for path, row in kept.items()}
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return {}


def _remembered(
    device: int,
    inode: int,
    size: int,
    mtime_ns: int,
    ctime_ns: int,
    sha256: str,
    build_id: str | None,
    owner: str | None,
) -> _Known:
    return _Known(state=(device, inode, size, mtime_ns, ctime_ns), sha256=sha256, build_id=build_id, owner=owner)
