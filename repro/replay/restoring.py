"""The verb `restore`: write the code tree of a run from the store, byte for byte. Nothing else is asked, no remote."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from repro.errors import ExecutionError, UsageError
from repro.evidence import integrity
from repro.evidence.model import Gap
from repro.evidence.store import RunDirectory, Store
from repro.evidence.trust import trusted_keys
from repro.replay import workspace

TREE: Final = "tree"
OUTSIDE: Final = "outside"


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What was written, and what the record says was not captured."""

    run_id: str
    tree: Path
    """The code tree."""
    files: int
    size_bytes: int
    outside: Path | None
    """Holds, at their absolute paths, the source trees outside the root; `None` where there are none."""
    outside_files: int
    missing: tuple[Gap, ...]
    """The record's gaps about code."""


def restore(
    reference: RunDirectory,
    store: Store,
    directory: Path,
    *,
    trust: tuple[Path, ...] = (),
    allow_unknown_signer: bool = False,
    progress: Callable[[str], None],
) -> Restored:
    """Verify a run and write its code tree.

    Args:
        reference: The run.
        store: Where it lies.
        directory: Where to write: new, or empty. The tree goes to `tree`, source trees outside the root to `outside`.
        trust: Public keys to trust, besides those that this machine trusts.
        allow_unknown_signer: Restore a record that no trusted key signed.
        progress: Called with what is going on.

    Raises:
        UsageError: The directory is not empty, or no directory.
        AlteredError: The record is not what was signed, or would write outside the directory.
        UntrustedError: Nobody whom this machine trusts signed it.
        InconclusiveError: Bytes of the tree are missing.
        ExecutionError: The directory cannot be written to.
    """
    _refuse_full(directory)
    progress(f"verifying run {reference.run_id}")
    record = integrity.load(reference, store, trusted_keys(store, trust), allow_unknown_signer=allow_unknown_signer)
    away = [file for file in record.code_files if file.path.startswith("/")]
    own = len(record.code_files) - len(away)
    progress(f"writing {len(record.code_files)} files to {directory}")
    try:
        workspace.restore_all(record.code_files, store.objects, directory / TREE, directory / OUTSIDE)
    except OSError as error:
        raise ExecutionError(f"cannot write to {error.filename or directory}: {error.strerror}") from error
    return Restored(
        run_id=record.run.run_id,
        tree=directory / TREE,
        files=own,
        size_bytes=sum(file.size_bytes for file in record.code_files),
        outside=directory / OUTSIDE if away else None,
        outside_files=len(away),
        missing=tuple(gap for gap in record.gaps if gap.topic == "code"),
    )


def _refuse_full(directory: Path) -> None:
    try:
        if any(directory.iterdir()):
            raise UsageError(f"{directory} is not empty", hint="name a new directory: nothing is ever written over")
    except FileNotFoundError:
        pass
    except NotADirectoryError:
        raise UsageError(f"{directory} is not a directory", hint="name a new directory") from None
    except OSError as error:
        raise ExecutionError(f"cannot read {directory}: {error.strerror}") from error
