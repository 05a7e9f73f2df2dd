"""Verify a run: its seal, and what became since of the files that it left behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from repro.audit.outputs import outputs
from repro.audit.parts import PartNow, parts_now
from repro.errors import ReproError
from repro.evidence import canonical, hashing, integrity
from repro.evidence.integrity import Integrity
from repro.evidence.keys import PublicKeys
from repro.evidence.model import DataFile, Record
from repro.evidence.store import RunDirectory, Store

OutputState = Literal["unchanged", "changed since", "gone", "cannot be read", "not hashed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputNow:
    """What became of an output. It informs, and decides nothing: files may be moved and overwritten after a run."""

    path: str
    recorded_sha256: str | None
    found_sha256: str | None
    state: OutputState


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """The answer of `verify`."""

    integrity: Integrity
    outputs: tuple[OutputNow, ...]
    """Empty where the record could not be read."""
    parts: tuple[PartNow, ...] = ()
    """Of a run on several nodes."""


def verify(directory: RunDirectory, store: Store, trusted: PublicKeys) -> Verified:
    """Examine a run and look at its outputs where it left them.

    Raises:
        InconclusiveError: A newer version of repro wrote this run.
    """
    examined = integrity.examine(directory, store, trusted)
    if examined.record is None:
        return Verified(integrity=examined, outputs=())
    found = parts_now(examined.record, store, trusted)
    return Verified(integrity=examined, outputs=outputs_now(examined.record), parts=found)


def outputs_now(record: Record) -> tuple[OutputNow, ...]:
    """Compare each output of a run with the file that lies in its place now."""
    return tuple(_now(row, record.run.root) for _, row in sorted(outputs(record).items()))


def _now(row: DataFile, root: str) -> OutputNow:
    found, state = _look(row, root)
    return OutputNow(path=row.path, recorded_sha256=row.digest, found_sha256=found, state=state)


def _look(row: DataFile, root: str) -> tuple[str | None, OutputState]:
    if row.digest is None:
        return None, "not hashed"
    place = Path(_path(root)) / _path(row.path)
    try:
        if not place.is_file():
            return None, "gone"
        found, _ = hashing.digest_file(place, hashing.algorithm_of(row.digest))
    except (OSError, ValueError, ReproError):
        return None, "cannot be read"
    return found, "unchanged" if found == row.digest else "changed since"


def _path(text: str) -> str:
    return canonical.decode_path(text).decode("utf-8", "surrogateescape")
