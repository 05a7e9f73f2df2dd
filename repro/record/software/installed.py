"""Compare installed files with the hashes in the RECORD of their distribution, which their wheel brought.

RECORD is a list in CSV of path, `ALGORITHM=HASH` in urlsafe base64 without padding, and size (PEP 376, PEP 427). pip
writes the hash of a script after it has put the interpreter's name in its first line, so scripts compare too. Compiled
code and RECORD itself stand there without a hash. RECORD is not trusted: it may name any path, so a file is opened only
below the environment that the distribution is in, also when links are followed.

A file that was compared and has not been touched since (inode, size, both times) is not read again. One that was
written less than two seconds before it was read is not believed to be untouched, as the clock of the file system may be
that coarse; this is what git's index does.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import csv
import hashlib
import os
import re
import stat
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from repro.evidence.canonical import decode_path, encode_path
from repro.evidence.model import Package, PackageChange
from repro.record import statebook
from repro.record.software.unchanged import NUMBERS
from repro.record.statebook import UNKNOWN, Ahead, Book, book_path

_ALGORITHMS: Final = {"sha256": 32, "sha384": 48, "sha512": 64}
"""With their lengths in bytes. MD5 and SHA-1 are not among them: PEP 427 forbids them."""
_SITE: Final = re.compile(r"(?P<root>/.+?)/lib(?:64)?/py[^/]*/(?:site|dist)-packages/?")
_COARSEST_CLOCK_NS: Final = 2_000_000_000
_CHUNK_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One line of a RECORD that has a hash, with where the file should lie."""

    package: str
    number: int
    """Of the lines with a hash, from 0."""
    states: array[int]
    """Where its state is noted once it compared equal."""
    path: str
    """Absolute, decoded as `os.fsdecode` does."""
    algorithm: str
    digest: str
    """Hexadecimal."""


@dataclass(slots=True, kw_only=True)
class Compared:
    """What came of it."""

    changes: list[PackageChange] = field(default_factory=list)
    compared: int = 0
    unlisted: list[str] = field(default_factory=list)
    """Distributions without a RECORD, or with one that cannot be read."""
    outside: list[str] = field(default_factory=list)
    """Paths that lead out of the environment: not opened."""
    unreadable: list[str] = field(default_factory=list)
    left: int = 0
    """Files that there was no time for."""


def compare(
    packages: Iterable[Package], keep: Path, is_late: Callable[[], bool], ahead: Ahead | None = None
) -> Compared:
    """Compare every file of the distributions, those first that cost least.

    Args:
        packages: As the environment capture listed them.
        keep: A directory for what is known from earlier comparisons; it may be dropped at will.
        is_late: Asked before each file that has to be read; the rest is left when it says yes.
        ahead: Looks at files already.
    """
    found = Compared()
    by_location: dict[str, list[Package]] = {}
    for package in packages:
        by_location.setdefault(os.fsdecode(decode_path(package.location)), []).append(package)
    for location, there in by_location.items():
        _compare_location(location, there, Book(book_path(keep, location), ahead), is_late, found)
    if ahead is not None:
        ahead.remember(tuple(by_location))
    found.changes.sort(key=lambda change: (change.package, change.path))
    return found


def _compare_location(
    location: str, packages: list[Package], book: Book, is_late: Callable[[], bool], found: Compared
) -> None:
    inside = Inside(location)
    waiting: list[tuple[Listed, os.stat_result]] = []
    folders: dict[str, list[Path]] | None = None
    for package in packages:
        part = book.part(package.record_sha256)
        if part is not None and part.is_whole and package.record_sha256 is not None:
            found.compared += len(part.same)
            book.keep(package.record_sha256)
            continue
        folders = metadata_folders(location) if folders is None else folders
        for line in _listed(package, record_of(package, folders), location, book, found):
            if (about := _look(line, inside, found)) is not None:
                waiting.append((line, about))
    for number, (line, about) in enumerate(sorted(waiting, key=lambda each: each[1].st_size)):
        if is_late():
            found.left += len(waiting) - number
            break
        _read_and_compare(line, about, found)
    book.save()


def _listed(package: Package, record: Path | None, location: str, book: Book, found: Compared) -> Iterator[Listed]:
    """Yield the lines of a distribution's RECORD that have a hash and are not known to be as it says."""
    if record is None or package.record_sha256 is None:
        if package.origin != "editable":
            found.unlisted.append(package.name)
        return
    lines = [(path, parsed) for path, recorded, _ in rows(record) if (parsed := parse_hash(recorded)) is not None]
    part = book.part(package.record_sha256)
    states = book.renew(package.record_sha256, [_absolute(location, path) for path, _ in lines])
    for number, (path, (algorithm, digest)) in enumerate(lines):
        if part is not None and (known := part.state(number)) != UNKNOWN:
            found.compared += 1
            states[NUMBERS * number : NUMBERS * (number + 1)] = array("Q", known)
            continue
        yield Listed(
            package=package.name,
            number=number,
            states=states,
            path=os.path.normpath(_absolute(location, path)),
            algorithm=algorithm,
            digest=digest,
        )


def _absolute(location: str, path: str) -> str:
    return path if path[0] == "/" else f"{location}/{path}"


def metadata_folders(location: str) -> dict[str, list[Path]]:
    """Return the `.dist-info` folders at a location by normalised name."""
    found: dict[str, list[Path]] = {}
    with contextlib.suppress(OSError), os.scandir(location) as entries:
        for entry in entries:
            if entry.name.endswith(".dist-info"):
                name = re.sub(r"[-_.]+", "-", entry.name.partition("-")[0]).lower()
                found.setdefault(name, []).append(Path(entry.path))
    return found


def record_of(package: Package, folders: dict[str, list[Path]]) -> Path | None:
    """Return the RECORD whose digest the environment capture noted, or `None`."""
    for folder in folders.get(package.name, []):
        with contextlib.suppress(OSError):
            record = folder / "RECORD"
            if f"sha256:{hashlib.sha256(record.read_bytes()).hexdigest()}" == package.record_sha256:
                return record
    return None


def rows(record: Path) -> Iterator[tuple[str, str, int]]:
    """Yield path, hash and size in bytes of each line of a RECORD; what is no such line is left out."""
    with contextlib.suppress(OSError, csv.Error):
        text = record.read_bytes().decode("utf-8", "surrogateescape")
        for row in csv.reader(text.splitlines(keepends=True)):
            if len(row) >= 2 and row[0] and "\0" not in row[0]:
                size = row[2] if len(row) > 2 else ""
                yield row[0], row[1], int(size) if size.isascii() and size.isdigit() and len(size) < 16 else 0


def parse_hash(text: str) -> tuple[str, str] | None:
    """Return algorithm and hexadecimal digest of `sha256=…`; `None` where it is none that can be trusted."""
    algorithm, _, encoded = text.partition("=")
    length = _ALGORITHMS.get(algorithm)
    try:
        raw = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return (algorithm, raw.hex()) if len(raw) == length else None


class Inside:
    """Says which paths are in the environment that a location of `sys.path` belongs to, links followed."""

    def __init__(self, location: str) -> None:
        site = _SITE.fullmatch(location)
        self.root = site["root"] if site else location
        self._root = os.path.realpath(self.root)
        self._folders: dict[str, bool] = {}

    def has(self, path: str, *, is_link: bool) -> bool:
        """Say whether a path is in it; of a link, what it leads to."""
        if is_link:
            return self._below(os.path.realpath(path))
        folder = os.path.dirname(path)  # noqa: PTH120 - twenty thousand of them
        if folder not in self._folders:
            self._folders[folder] = self._below(os.path.realpath(folder) + "/")
        return self._folders[folder]

    def _below(self, path: str) -> bool:
        return self._root != "/" and path.startswith(self._root + "/")


def _look(line: Listed, inside: Inside, found: Compared) -> os.stat_result | None:
    """Return the file's state if it has to be read."""
    try:
        about = os.lstat(line.path)
        is_link = stat.S_ISLNK(about.st_mode)
        if not inside.has(line.path, is_link=is_link):
            found.outside.append(line.path)
            return None
        if is_link:
            about = os.stat(line.path)  # noqa: PTH116 - twenty thousand of them
    except (FileNotFoundError, NotADirectoryError):
        _note(line, None, found)
        return None
    except (OSError, ValueError):
        found.unreadable.append(line.path)
        return None
    return about


def _read_and_compare(line: Listed, about: os.stat_result, found: Compared) -> None:
    begun_ns = time.time_ns()
    try:
        digest = _digest(line) if stat.S_ISREG(about.st_mode) else None
    except FileNotFoundError:
        digest = None
    except OSError:
        found.unreadable.append(line.path)
        return
    found.compared += 1
    if digest == line.digest:
        if max(about.st_mtime_ns, about.st_ctime_ns) + _COARSEST_CLOCK_NS < begun_ns:  # else a change may look the same
            statebook.fill(line.states, line.number, about)
    else:
        _note(line, digest, found)


def _digest(line: Listed) -> str:
    descriptor = os.open(line.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        hasher = hashlib.new(line.algorithm)
        while chunk := file.read(_CHUNK_BYTES):
            hasher.update(chunk)
    return hasher.hexdigest()


def _note(line: Listed, digest: str | None, found: Compared) -> None:
    found.changes.append(
        PackageChange(
            package=line.package,
            path=encode_path(line.path),
            state="missing" if digest is None else "changed",
            recorded_sha256=f"{line.algorithm}:{line.digest}",
            found_sha256=None if digest is None else f"{line.algorithm}:{digest}",
        )
    )
