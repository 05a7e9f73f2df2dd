"""The files that a user declared: each folder is listed, and each file looked at, but none is read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Regular files straight in one folder."""

    folder: bytes
    """Absolute, ended by a slash."""
    names: list[str]
    """As `os.fsdecode` has them, in the order of their bytes."""
    states: list[os.stat_result]
    """Of each; links are followed."""

    def __iter__(self) -> Iterator[tuple[bytes, os.stat_result]]:
        """Yield each file's path and state."""
        for name, about in zip(self.names, self.states, strict=True):
            yield self.folder + os.fsencode(name), about


def declared(paths: Iterable[str], cwd: Path) -> Iterator[tuple[bytes, os.stat_result]]:
    """Yield every regular file that the user declared, with its state: each path itself, or all that lies below it.

    Links are followed, each folder once.

    Args:
        paths: As given; relative ones start from `cwd`.
        cwd: Absolute.
    """
    for listing in listings(paths, cwd):
        yield from listing


def listings(paths: Iterable[str], cwd: Path) -> Iterator[Listing]:
    """Yield the same files as `declared`, in the same order, a folder at a time."""
    for path in paths:
        start = os.path.abspath(os.path.join(os.fsencode(cwd), os.fsencode(path)))  # noqa: PTH100, PTH118 - bytes
        with suppress(OSError):
            about = os.stat(start)  # noqa: PTH116 - bytes
            if stat.S_ISDIR(about.st_mode):
                yield from _below(start)
            else:
                folder, name = os.path.split(start)
                yield Listing(folder=_ended(folder), names=[os.fsdecode(name)], states=[about])


def _below(start: bytes) -> Iterator[Listing]:
    """Yield what lies below a folder, in order; what cannot be listed holds none."""
    seen: set[tuple[int, int]] = set()
    left = [start]
    while left:
        folder, folders = _ended(left.pop()), list[str]()
        files: dict[str, os.stat_result] = {}
        with suppress(OSError):
            _list(folder, seen, folders, files)
        left.extend(folder + os.fsencode(name) for name in _ordered(folders, reverse=True))
        names = _ordered(files)
        if names:
            yield Listing(folder=folder, names=names, states=list(map(files.__getitem__, names)))


def _list(folder: bytes, seen: set[tuple[int, int]], folders: list[str], files: dict[str, os.stat_result]) -> None:
    """List one folder, unless it was seen: by its descriptor, as to look up the whole path of each file costs more."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    look, is_file, is_folder = os.stat, stat.S_ISREG, stat.S_ISDIR
    try:
        about = os.fstat(descriptor)
        if (about.st_dev, about.st_ino) in seen:
            return
        seen.add((about.st_dev, about.st_ino))
        for name in os.listdir(descriptor):  # noqa: PTH208 - by descriptor; scandir takes a fifth longer
            try:
                about = look(name, dir_fd=descriptor)
            except OSError:  # a link to nowhere
                continue
            mode = about.st_mode
            if is_file(mode):
                files[name] = about
            elif is_folder(mode):
                folders.append(name)
    finally:
        os.close(descriptor)


def _ordered(names: Iterable[str], *, reverse: bool = False) -> list[str]:
    """Return names in the order of their bytes."""
    return sorted(names, key=None if all(map(str.isascii, names)) else os.fsencode, reverse=reverse)


def _ended(folder: bytes) -> bytes:
    return folder.rstrip(b"/") + b"/"
