"""The inputs of a run, checked by digest before anything is built."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from repro.errors import AlteredError, InconclusiveError
from repro.evidence import canonical
from repro.evidence.hashing import Algorithm, Outcome
from repro.evidence.model import DataFile, Record
from repro.evidence.objects import Objects
from repro.evidence.times import utc_ns
from repro.replay import tools
from repro.replay.known import Known
from repro.replay.tools import Tool


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
    dataset: str | None = None
    """The name of the dataset that it belongs to."""


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
    programs: tuple[Tool, ...] = ()
    """Programs outside the environment and the tree that the run executed."""


def inspect(
    record: Record, objects: Objects, *, progress: Callable[[str], None], cache: Path | None = None
) -> Inspection:
    """Look for each data and code input of a run by its digest: in the tree, the object store, and at its place.

    Args:
        record: A verified record.
        objects: Where the run's objects lie.
        progress: Called with what is going on.
        cache: Where the recorder keeps what it hashed; a file that has not changed since is not read again.

    Raises:
        UsageError: The record has digests of an algorithm that is not installed here.
    """
    known = Known(cache)
    tree = {file.path for file in record.code_files if file.kind == "file"}
    written = {file.path: file for file in record.data_files if file.role == "output"}
    inputs: list[Input] = []
    mismatches: list[Mismatch] = []
    unchecked: list[str] = []
    wanted = needed_inputs(record)
    outside = sum(file.size_bytes or 0 for file in wanted if file.path not in tree)
    if outside > 1 << 28:
        progress(f"checking {outside / 1e9:.1f} GB of input data by digest")
    found_first = {file.path: _look(file, tree, written, objects) for file in wanted}
    at_place = [file for file in wanted if found_first[file.path] is None]
    examined = _examine(record, at_place, known, progress)
    for file in wanted:
        found = found_first[file.path] or examined.get(file.path) or _input(file, "place")
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
        programs=tools.find(record, known),
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


def _look(file: DataFile, tree: set[str], written: dict[str, DataFile], objects: Objects) -> Input | Mismatch | None:
    """Return what is known of an input without looking at its place; `None` if it must be looked for there."""
    if file.path in tree:
        return _input(file, "tree")
    own = written.get(file.path)
    if own is not None and not _left_alone(file, own) and not is_cache(file.path):
        return _mismatch(
            file, None, None, "was read and then written over by the run itself; what it read was not kept"
        )
    if not file.path.startswith("/") and _stored(objects, file.digest):
        return _input(file, "object")
    return None


def _left_alone(read: DataFile, written: DataFile) -> bool:
    """Say whether a file that was opened to be read and written holds what was read."""
    return read.digest is not None and read.digest == written.digest and not read.changed_during_run


def _input(file: DataFile, source: Literal["tree", "object", "place"]) -> Input:
    return Input(path=file.path, source=source, sha256=file.digest, size_bytes=file.size_bytes or 0)


def _stored(objects: Objects, digest: str | None) -> bool:
    if digest is None or not digest.startswith("sha256:"):  # objects are named by SHA-256
        return False
    if not os.path.lexists(f"{os.fspath(objects.root)}/{digest[7:9]}/{digest[9:]}"):  # of most data; many are asked for
        return False
    try:
        objects.verify(digest)
    except (InconclusiveError, AlteredError):
        return False
    return True


def _examine(
    record: Record, files: list[DataFile], known: Known, progress: Callable[[str], None]
) -> dict[str, Mismatch]:
    """Hash files at their recorded places and say what is wrong with them, if anything is."""
    removed = {change.path for change in record.file_changes if change.action != "linked"}
    wrong: dict[str, Mismatch] = {}
    there: list[tuple[DataFile, str, os.stat_result]] = []
    root = os.fspath(place(record, "."))
    for file in files:
        path = os.path.join(root, os.fsdecode(canonical.decode_path(file.path)))  # noqa: PTH118 - `Path` is slow
        about = _stand(file, path, by_itself=file.path in removed)
        if isinstance(about, Mismatch):
            wrong[file.path] = about
        else:
            there.append((file, path, about))
    for algorithm in ("sha256", "blake3"):
        some = [item for item in there if _algorithm(item[0]) == algorithm]
        outcomes = known.digests([(os.fsencode(path), about) for _, path, about in some], algorithm, progress)
        for (file, _, about), found in zip(some, outcomes, strict=True):
            mismatch = _compare(record, file, about, found)
            if mismatch is not None:
                wrong[file.path] = mismatch
    known.save()
    return wrong


def _algorithm(file: DataFile) -> Algorithm:
    return "blake3" if (file.digest or "").startswith("blake3:") else "sha256"


def _stand(file: DataFile, path: str, *, by_itself: bool) -> os.stat_result | Mismatch:
    """Return how a file stands at its place; a mismatch if none is there, or something else is."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        directory = next(parent for parent in Path(path).parents if parent.is_dir())
        since = utc_ns(directory.stat().st_mtime_ns)
        who = "; the run itself removed it or gave it another name" if by_itself else ""
        return _mismatch(file, None, since, f"is gone ({directory} last changed on {_minute(since)}{who})")
    except OSError as error:
        return _mismatch(file, None, None, f"cannot be read: {error.strerror}")
    except ValueError:
        return _mismatch(file, None, None, "is no name that a file can have")
    if not stat.S_ISREG(status.st_mode):  # opening a FIFO would wait for ever
        return _mismatch(file, None, utc_ns(status.st_mtime_ns), "is not a file any more")
    return status


def _compare(record: Record, file: DataFile, about: os.stat_result, found: Outcome) -> Mismatch | None:
    if found.digest is None:
        return _mismatch(file, None, None, f"cannot be checked: {found.error}")
    if file.digest is None or found.digest == file.digest:
        return None
    modified_at = utc_ns(about.st_mtime_ns)
    what = _since(modified_at, file.modified_at, record.run.ended_at)
    return _mismatch(file, found.digest, modified_at, what, found.size_bytes)


def _since(found: str, recorded: str | None, ended_at: str) -> str:
    if found > ended_at:
        return f"changed on {_minute(found)}, after it was recorded"
    if found == recorded:
        return f"changed, although its time of modification is still {_minute(found)}"
    return f"was replaced by another file, last modified on {_minute(found)}"


def _doubts(file: DataFile, found: Input) -> list[str]:
    if found.source == "tree":
        return []
    if file.digest is None:
        return [f"{file.path} could not be hashed when it was recorded, so it cannot be checked"]
    if file.changed_during_run:
        return [f"{file.path} changed while the run was going on, so its digest may not be that of what was read"]
    return []


def _mismatch(file: DataFile, found: str | None, modified_at: str | None, what: str, size_bytes: int = 0) -> Mismatch:
    return Mismatch(
        path=file.path,
        recorded_sha256=file.digest,
        found_sha256=found,
        found_size_bytes=size_bytes,
        recorded_modified_at=file.modified_at,
        found_modified_at=modified_at,
        sentence=f"{file.path} {what}",
        dataset=file.dataset,
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


def _minute(at: str) -> str:
    return f"{at[:10]} {at[11:16]} UTC"
