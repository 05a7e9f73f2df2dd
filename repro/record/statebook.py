"""What is known of the installed files at one place: the state that each had when it compared equal to its hash.

A book has the files of each RECORD, by that RECORD's digest, in the order in which they stand there: where all of them
are as they were, the RECORD need not be read again. A process of its own can look at them ahead, for the books that the
command's program needed the last time. The format is that of `unchanged.py`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from repro.record.software import unchanged
from repro.record.software.unchanged import NUMBERS

UNKNOWN: Final = (0,) * NUMBERS
"""A state that no file has."""
_TOP: Final = 2**64
_MAX_AHEAD: Final = 16
"""Locations of a program that are looked at ahead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The files of one RECORD."""

    states: array[int]
    same: bytes
    """A byte for each, as `unchanged.same` says."""

    @property
    def is_whole(self) -> bool:
        """Whether every file is as it was."""
        return b"0" not in self.same

    def state(self, number: int) -> tuple[int, ...]:
        """Return the state that the file had when it compared equal, if it still has it; else `UNKNOWN`."""
        if self.same[number : number + 1] != b"1":
            return UNKNOWN
        return tuple(self.states[NUMBERS * number : NUMBERS * (number + 1)])


class Book:
    """What was known before, and what is known now, of the files at one location."""

    def __init__(self, path: Path, ahead: Ahead | None = None) -> None:
        self._path = path
        self._counts: list[list[object]] = []
        self._parts: dict[str, tuple[int, int]] = {}
        self._paths: list[bytes] = []
        self._states = array("Q")
        self._same = b""
        with contextlib.suppress(OSError, ValueError, TypeError):
            self._load(ahead)
        self._now: list[tuple[str, list[bytes], array[int]]] = []

    def _load(self, ahead: Ahead | None) -> None:
        with self._path.open("rb") as file:
            identity = unchanged.identify(os.fstat(file.fileno()))
            head, paths, states = unchanged.parse(file.read())
        parts: dict[str, tuple[int, int]] = {}
        start = 0
        counts = json.loads(head)
        for record, count in counts:
            parts[record] = start, start + int(count)
            start += int(count)
        if start != len(paths):
            raise ValueError("the book is damaged")
        looked = None if ahead is None else ahead.same(identity)
        same = looked if looked is not None and len(looked) == len(paths) else unchanged.same(paths, states)
        self._counts, self._parts, self._paths = counts, parts, paths
        self._states, self._same = states, same

    def part(self, record: str | None) -> Part | None:
        """Return what is known of the files of a RECORD, by its digest."""
        if record not in self._parts:
            return None
        start, end = self._parts[record]
        return Part(states=self._states[NUMBERS * start : NUMBERS * end], same=self._same[start:end])

    def keep(self, record: str) -> None:
        """Keep what was known of the files of a RECORD as it was."""
        start, end = self._parts[record]
        self._now.append((record, self._paths[start:end], self._states[NUMBERS * start : NUMBERS * end]))

    def renew(self, record: str, paths: Sequence[str]) -> array[int]:
        """Note the files of a RECORD anew; return their states, to be filled in."""
        states = array("Q", UNKNOWN * len(paths))
        self._now.append((record, [os.fsencode(path) for path in paths], states))
        return states

    def save(self) -> None:
        """Write what is known now, if that is something else; a book that cannot be written is none."""
        counts: list[list[object]] = [[record, len(paths)] for record, paths, _ in self._now]
        states = b"".join(each.tobytes() for _, _, each in self._now)
        if counts == self._counts and states == self._states.tobytes():
            return
        paths = b"".join(path + b"\0" for _, each, _ in self._now for path in each)
        write(self._path, b"%b\n%d %d\n%b%b" % (json.dumps(counts).encode(), len(paths), len(states), paths, states))


def fill(states: array[int], number: int, about: os.stat_result) -> None:
    """Note the state of a file; one that does not fit, such as a time before 1970, stays unknown."""
    state = about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns
    if all(0 <= each < _TOP for each in state):
        states[NUMBERS * number : NUMBERS * (number + 1)] = array("Q", state)


def book_path(keep: Path, location: str) -> Path:
    """Return where the book of a location lies."""
    return keep / (hashlib.sha256(os.fsencode(location)).hexdigest() + ".book")


def write(path: Path, data: bytes) -> None:
    """Write a file of the cache: complete, or not at all. A cache that cannot be written, on a full disk, is none."""
    with contextlib.suppress(OSError), contextlib.ExitStack() as undo:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            undo.callback(Path(file.name).unlink, missing_ok=True)
            file.write(data)
        os.replace(file.name, path)  # noqa: PTH105 - complete, or not there


class Ahead:
    """A process that looks at the files of the environment that a program had the last time.

    Args:
        keep: The directory of books.
        program: Path of the command's program. Which environment it brings is a guess, which `same` makes good.
    """

    def __init__(self, keep: Path, program: str) -> None:
        self._note = keep / (hashlib.sha256(os.fsencode(program)).hexdigest() + ".last")
        self._names = self._last()
        self._answers: dict[bytes, bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        books = [keep / name for name in self._names if (keep / name).is_file()]
        if books and sys.executable:
            with contextlib.suppress(OSError):
                command: list[str | Path] = [sys.executable, "-I", "-S", unchanged.__file__, *books]
                self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL, process_group=0)  # fmt: skip

    def same(self, identity: bytes) -> bytes | None:
        """Return a byte for each file of a book, once the process has looked; `None` where it did not."""
        if self._answers is None:
            said = b"" if self._process is None else self._process.communicate()[0]
            lines = said.split(b"\n")
            self._answers = dict(zip(lines[::2], lines[1::2], strict=False))
        return self._answers.get(identity)

    def remember(self, locations: Sequence[str]) -> None:
        """Note what was needed in the end."""
        names = [book_path(self._note.parent, location).name for location in locations][:_MAX_AHEAD]
        if names != self._names:
            write(self._note, json.dumps(names).encode())

    def end(self) -> None:
        """End the process, should it still look."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.communicate()

    def _last(self) -> list[str]:
        try:
            names = json.loads(self._note.read_bytes())
        except (OSError, ValueError):
            return []
        return [name for name in names if isinstance(name, str) and "/" not in name] if isinstance(names, list) else []
