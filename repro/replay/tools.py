"""The programs of the machine that a run executed, and how they stand here: not Python's, and not the tree's own."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from repro.evidence import canonical
from repro.evidence.model import Program, Record
from repro.replay.known import Known

_PYTHON: Final = re.compile(r"(python|pypy)[0-9.]*t?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One program that the run executed, as it was and as it is here."""

    path: str
    """As recorded."""
    here: str | None
    """Where a replay would find it: at the same place, else by its name on PATH; `None` if it is missing."""
    recorded_sha256: str | None
    found_sha256: str | None


def find(record: Record, known: Known) -> tuple[Tool, ...]:
    """Look for each program once. What the environment or the tree brings along is left out: a replay restores it."""
    own = tuple(_restored_folders(record))
    made = {file.path for file in record.data_files if file.role == "output"}
    wanted = {row.path: row for row in record.programs if row.path not in made and not _is_restored(row.path, own)}
    places = {path: _place(row) for path, row in sorted(wanted.items())}
    files = [(path, os.fsencode(here), os.stat(here)) for path, here in places.items() if here]  # noqa: PTH116
    outcomes = known.digests([(name, about) for _, name, about in files], "sha256")
    digests = {path: outcome.digest for (path, _, _), outcome in zip(files, outcomes, strict=True)}
    return tuple(
        Tool(path=path, here=here, recorded_sha256=wanted[path].sha256, found_sha256=digests.get(path))
        for path, here in places.items()
    )


def _is_restored(path: str, own: tuple[str, ...]) -> bool:
    """Say whether a program is a Python, or lies where the tree or the environment does."""
    return _PYTHON.fullmatch(PurePosixPath(path).name) is not None or path.startswith(own)


def _restored_folders(record: Record) -> Iterator[str]:
    yield f"{record.run.root.rstrip('/')}/"
    yield f"{tempfile.gettempdir().rstrip('/')}/"
    for name in ("prefix", "base_prefix"):
        folder = record.fact("environment", name)
        if folder and folder.rstrip("/") not in ("", "/usr"):  # a system Python stands among the system's programs
            yield f"{folder.rstrip('/')}/"


def _place(row: Program) -> str | None:
    """Return where a replay would find a program."""
    path = os.fsdecode(canonical.decode_path(row.path))
    if _runs(path):
        return path
    name = row.argv[0] if row.argv else ""
    return None if "/" in name or not name else shutil.which(name)


def _runs(path: str) -> bool:
    return Path(path).is_file() and os.access(path, os.X_OK)
