"""The inputs of a run, checked by digest before anything is built."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from repro.errors import AlteredError, InconclusiveError
from repro.evidence import canonical
from repro.evidence.model import DataFile, Record
from repro.evidence.objects import Objects


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """An input that is not what the run read."""

    path: str
    """As in the record: relative to the root if inside it, else absolute."""
    recorded_sha256: str | None
    found_sha256: str | None
    """`None` when there is nothing to hash: the file is gone, is no file any more, or cannot be read."""
    found_size_bytes: int
    recorded_modified_at: str | None
    found_modified_at: str | None
    """Of the file; of its nearest directory that still stands if it is gone."""
    sentence: str
    """What is wrong and since when, naming the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """An input that the replay needs."""

    path: str
    source: Literal["tree", "object", "place"]
    """The recorded code tree, the object store, or the file where it lay when it was recorded."""
    sha256: str | None
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What was found of a run's inputs, and of the directories it wrote to, on this machine."""

    inputs: tuple[Input, ...] = ()
    mismatches: tuple[Mismatch, ...] = ()
    unchecked: tuple[str, ...] = ()
    """Sentences about inputs that no digest vouches for."""
    made_directories: tuple[str, ...] = ()
    """Absolute directories that the run itself made, as their time of birth tells."""
    present_outputs: tuple[str, ...] = ()
    """Outputs outside the root that still lie there."""


def inspect(record: Record, objects: Objects, *, progress: Callable[[str], None]) -> Inspection:
    """Look for each data and code input of a run by its digest: in the tree, the object store, and at its place."""
    tree = {file.path for file in record.code_files if file.kind == "file"}
    written = {file.path for file in record.data_files if file.role == "output"}
    inputs: list[Input] = []
    mismatches: list[Mismatch] = []
    unchecked: list[str] = []
    wanted = needed_inputs(record)
    outside = sum(file.size_bytes or 0 for file in wanted if file.path not in tree)
    if outside > 1 << 28:
        progress(f"checking {outside / 1e9:.1f} GB of input data by digest")
    for file in wanted:
        found = _look(record, file, tree, written, objects)
        if isinstance(found, Mismatch):
            mismatches.append(found)
        else:
            inputs.append(found)
            unchecked += _doubts(file, found)
    return Inspection(
        inputs=tuple(inputs),
        mismatches=tuple(mismatches),
        unchecked=tuple(unchecked),
        made_directories=_made_directories(record),
        present_outputs=tuple(path for path in outside_outputs(record) if place(record, path).exists()),
    )


def needed_inputs(record: Record) -> tuple[DataFile, ...]:
    """Return the inputs that decide whether a replay may start: data and code, without compiled copies of code."""
    return tuple(
        file
        for file in record.data_files
        if file.role == "input" and file.category in ("data", "code") and not file.path.endswith(".pyc")
    )


def outside_outputs(record: Record) -> tuple[str, ...]:
    """Return the absolute paths, encoded, of data that the run wrote outside its root."""
    return tuple(
        file.path
        for file in record.data_files
        if file.role == "output" and file.category in ("data", "code") and file.path.startswith("/")
    )


def place(record: Record, path: str) -> Path:
    """Return where a recorded path lay: absolute, or under the recorded root."""
    root = Path(os.fsdecode(canonical.decode_path(record.run.root)))
    return root / os.fsdecode(canonical.decode_path(path))


def is_cache(path: str) -> bool:
    """Say whether an encoded path lies in a hidden directory of the home, where libraries keep what they refetch."""
    home = canonical.encode_path(Path.home())
    return path.startswith(f"{home}/.")


def _look(record: Record, file: DataFile, tree: set[str], written: set[str], objects: Objects) -> Input | Mismatch:
    size_bytes = file.size_bytes or 0
    if file.path in tree:
        return Input(path=file.path, source="tree", sha256=file.sha256, size_bytes=size_bytes)
    if file.path in written and not is_cache(file.path):
        return _mismatch(
            file, None, None, "was read and then written over by the run itself; what it read was not kept"
        )
    if not file.path.startswith("/") and _stored(objects, file.sha256):
        return Input(path=file.path, source="object", sha256=file.sha256, size_bytes=size_bytes)
    found = _examine(record, file)
    return found or Input(path=file.path, source="place", sha256=file.sha256, size_bytes=size_bytes)


def _stored(objects: Objects, digest: str | None) -> bool:
    if digest is None:
        return False
    try:
        objects.verify(digest)
    except (InconclusiveError, AlteredError):
        return False
    return True


def _examine(record: Record, file: DataFile) -> Mismatch | None:
    """Hash the file at its recorded place and say what is wrong with it, if anything is."""
    path = place(record, file.path)
    try:
        status = path.stat()
        modified_at = _utc(status.st_mtime)
        if not stat.S_ISREG(status.st_mode):  # opening a FIFO would wait for ever
            return _mismatch(file, None, modified_at, "is not a file any more")
        found, size_bytes = canonical.digest_file(path)
    except (FileNotFoundError, NotADirectoryError):
        directory = next(parent for parent in path.parents if parent.is_dir())
        since = _utc(directory.stat().st_mtime)
        return _mismatch(file, None, since, f"is gone ({directory} last changed on {_minute(since)})")
    except OSError as error:
        return _mismatch(file, None, None, f"cannot be read: {error.strerror}")
    if file.sha256 is None or found == file.sha256:
        return None
    what = _since(modified_at, file.modified_at, record.run.ended_at)
    return _mismatch(file, found, modified_at, what, size_bytes)


def _since(found: str, recorded: str | None, ended_at: str) -> str:
    if found > ended_at:
        return f"changed on {_minute(found)}, after it was recorded"
    if found == recorded:
        return f"changed, although its time of modification is still {_minute(found)}"
    return f"was replaced by another file, last modified on {_minute(found)}"


def _doubts(file: DataFile, found: Input) -> list[str]:
    if found.source == "tree":
        return []
    if file.sha256 is None:
        return [f"{file.path} could not be hashed when it was recorded, so it cannot be checked"]
    if file.changed_during_run:
        return [f"{file.path} changed while the run was going on, so its digest may not be that of what was read"]
    return []


def _mismatch(file: DataFile, found: str | None, modified_at: str | None, what: str, size_bytes: int = 0) -> Mismatch:
    return Mismatch(
        path=file.path,
        recorded_sha256=file.sha256,
        found_sha256=found,
        found_size_bytes=size_bytes,
        recorded_modified_at=file.modified_at,
        found_modified_at=modified_at,
        sentence=f"{file.path} {what}",
    )


def _made_directories(record: Record) -> tuple[str, ...]:
    """Return the directories on the way to an output that were born while the run was going on.

    A replay must find the directories that were there before, and must not find those that the script makes, or its
    `mkdir` would fail. Python 3.11 has no `st_birthtime` on Linux; GNU `stat` has it, where the file system keeps it.
    """
    parents = {
        os.fspath(parent)
        for file in record.data_files
        if file.role == "output" and file.category in ("data", "code")
        for parent in _standing(place(record, file.path).parents)
    }
    began, ended = (datetime.fromisoformat(at).timestamp() for at in (record.run.started_at, record.run.ended_at))
    births = _births(sorted(parents))
    return tuple(path for path, birth in births if began <= birth <= ended)


def _standing(parents: Iterable[Path]) -> Iterable[Path]:
    return (parent for parent in parents if parent.is_dir() and parent != Path("/"))


def _births(paths: list[str]) -> list[tuple[str, float]]:
    if not paths:
        return []
    try:
        done = subprocess.run(["stat", "-c", "%.9W", "--", *paths], capture_output=True, text=True, check=False)
    except OSError:  # no `stat`, or more paths than an argument list holds: nothing is known
        return []
    births = done.stdout.split()
    return (
        [(path, float(birth)) for path, birth in zip(paths, births, strict=True)] if len(births) == len(paths) else []
    )


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _minute(at: str) -> str:
    return f"{at[:10]} {at[11:16]} UTC"
