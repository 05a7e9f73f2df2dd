"""Run the first steps of a run again before its record is sealed: on this machine, at once, as often as is wanted.

A replay repeats sealed records alone. So the record is sealed provisionally, in a store of its own that has the same
objects, with a key of its own, and replayed from there by the `host` executor. All of it is removed afterwards.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from repro.errors import ExecutionError
from repro.evidence import seal, statement
from repro.evidence.model import Record
from repro.evidence.objects import Objects
from repro.evidence.store import RunDirectory, Store
from repro.record.excerpt import Excerpt
from repro.record.tracing import Tracing
from repro.replay.replayer import Options, Progress, replay

EVERY_STEP: Final = Tracing(every=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """A record, sealed provisionally."""

    directory: RunDirectory
    store: Store
    options: Options
    progress: Progress

    def again(self, excerpt: Excerpt, tracing: Tracing | None = None) -> Record:
        """Run a part of the command again, and return the record of that.

        Args:
            excerpt: What part.
            tracing: Which steps to fingerprint; `None` for those of the record.

        Raises: as `repro.replay.replayer.replay`.
        """
        options = replace(self.options, excerpt=excerpt, tracing=tracing)
        return replay(self.directory, self.store, options, progress=self.progress).replay.record


@contextmanager
def rehearsing(record: Record, store: Store, *, progress: Progress) -> Iterator[Rehearsal]:
    """Seal a record provisionally, and remove it and all replays of it at the end. What these print goes nowhere.

    Args:
        record: What is to be sealed.
        store: Where its objects lie.
        progress: Called with what is going on in the replays.

    Raises:
        ExecutionError: The store's cache cannot be written to.
    """
    path = _scratch(store)
    try:
        scratch = Store(path)
        scratch.cache = store.cache
        directory = RunDirectory(path=scratch.runs_path / record.run.run_id)
        directory.path.mkdir(mode=0o700, parents=True)
        for digest in statement.object_digests(record, store.objects):
            _lend(digest, store.objects, scratch.objects)
        seal.seal_run(record, directory, scratch)
        with Path(os.devnull).open("r+b", buffering=0) as nothing, _input_from(nothing.fileno()):
            yield Rehearsal(
                directory=directory,
                store=scratch,
                options=Options(
                    executor="host",
                    pass_variables=_hidden_variables(record),
                    output_fd=nothing.fileno(),
                    in_haste=True,
                ),
                progress=progress,
            )
    except OSError as error:
        raise _cannot_write(error) from error
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _scratch(store: Store) -> Path:
    try:
        store.cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="self-check-", dir=store.cache))
    except OSError as error:
        raise _cannot_write(error) from error


def _cannot_write(error: OSError) -> ExecutionError:
    return ExecutionError(
        f"cannot prepare the self-check: {error.filename}: {error.strerror}",
        hint="make room there, or set REPRO_HOME to a writable directory",
    )


def _lend(digest: str, source: Objects, target: Objects) -> None:
    """Make an object be there in another store, too: the same file where the file system allows it."""
    path = target.path(digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.path(digest), path)
    except OSError:
        shutil.copyfile(source.path(digest), path)


def _hidden_variables(record: Record) -> tuple[str, ...]:
    """Return the variables that the command had and the record does not hold: here they still have their values."""
    names = (record.fact("environment", "other_variables") or "").split(",")
    return tuple(name for name in names if name in os.environ and not name.startswith("REPRO_"))


@contextmanager
def _input_from(descriptor: int) -> Iterator[None]:
    """Have what is started meanwhile read from another file: the command has read its input."""
    kept = os.dup(0)
    os.dup2(descriptor, 0)
    try:
        yield
    finally:
        os.dup2(kept, 0)
        os.close(kept)
