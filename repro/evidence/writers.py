"""Which sealed run wrote a checkpoint: an index over the store, unsigned, dropped and built anew at will.

It is asked by the file's digest and by the digest of the tensors. What it answers is a place to look: the row itself is
read from the run's own manifest, once that is seen to be what was signed.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal

from repro.errors import ExecutionError, ReproError
from repro.evidence import canonical, integrity
from repro.evidence.goingon import goes_on_at
from repro.evidence.model import Checkpoint, Continuation, Record
from repro.evidence.store import RunDirectory, Store

NAME: Final = "checkpoints-1.sqlite"
_NEEDED: Final = ("checkpoint", "checkpoint_tensor", "continuation", "fingerprint", "traced_tensor")
_BUSY_SECONDS: Final = 10.0
_DDL: Final = """
    CREATE TABLE IF NOT EXISTS run (run_id TEXT PRIMARY KEY, started_at TEXT NOT NULL, replay INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS written (
        run_id TEXT NOT NULL, process_key TEXT NOT NULL, ordinal INTEGER NOT NULL,
        digest TEXT NOT NULL, file_digest TEXT
    );
    CREATE INDEX IF NOT EXISTS written_digest ON written (digest);
    CREATE INDEX IF NOT EXISTS written_file_digest ON written (file_digest);
    CREATE INDEX IF NOT EXISTS written_run ON written (run_id);
"""
_CANDIDATES: Final = """
    SELECT run_id, process_key, ordinal FROM written JOIN run USING (run_id)
    WHERE {column} = ? AND started_at < ? ORDER BY replay, started_at DESC, process_key, ordinal DESC LIMIT 16
"""
"""A replay writes what its original wrote: the original comes first. Of one run, the last that it wrote."""


class Writers:
    """The index of a store's written checkpoints; a context manager.

    Args:
        store: Whose runs are looked up.

    Raises:
        ExecutionError: It cannot be made.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._path = store.cache / NAME
        self._records: dict[str, Record | None] = {}
        self._database = self._open()

    def __enter__(self) -> Writers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._database.close()
        if isinstance(error, sqlite3.Error):
            raise self._failure(error) from error

    def refresh(self, *, until: Callable[[], bool] = lambda: False) -> None:
        """Take in the runs that were sealed since, newest first, and forget those that are gone.

        Args:
            until: Asked before each run whether to leave it at that.
        """
        known = {row[0] for row in self._database.execute("SELECT run_id FROM run")}
        there = self._store.sealed_ids()
        for run_id in known - there:
            self._forget(run_id)
        new = sorted(there - known, key=self._age, reverse=True)
        for run_id in new:
            if until():
                break
            if self._store.row_count(run_id, "checkpoint") == 0:  # most runs of most stores: no manifest is opened
                self._put(run_id, "", is_replay=False, rows=[])
                continue
            with contextlib.suppress(ReproError):  # what cannot be read is looked for again the next time
                self.add(integrity.load_part(self._directory(run_id), {}, only=("checkpoint",)))

    def add(self, record: Record) -> None:
        """Take in one sealed run."""
        run = record.run
        rows: list[tuple[Any, ...]] = [
            (run.run_id, row.process_key, row.ordinal, row.digest, row.file_digest)
            for row in record.checkpoints
            if row.action == "written"
        ]
        self._put(run.run_id, run.started_at, is_replay=run.replay_of is not None, rows=rows)

    def _put(self, run_id: str, started_at: str, *, is_replay: bool, rows: list[tuple[Any, ...]]) -> None:
        with self._database:
            self._database.execute("INSERT OR REPLACE INTO run VALUES (?, ?, ?)", (run_id, started_at, is_replay))
            self._database.execute("DELETE FROM written WHERE run_id = ?", (run_id,))
            self._database.executemany("INSERT INTO written VALUES (?, ?, ?, ?, ?)", rows)

    def of(self, read: Checkpoint, *, before: str, whole: bool = True) -> Continuation | None:
        """Return the link from a checkpoint that was read to the run that wrote it; `None` if no run did.

        Args:
            read: The checkpoint.
            before: When it was read, UTC: only runs that started earlier count.
            whole: Whether each of its tensors has a fingerprint, so that its digest says what it holds.
        """
        questions: tuple[tuple[Literal["file", "content"], str | None], ...] = (
            ("file", read.file_digest),
            ("content", read.digest if whole else None),
        )
        for by, digest in questions:
            column = {"file": "file_digest", "content": "digest"}[by]
            for run_id, process_key, ordinal in self._candidates(column, digest, before) if digest else ():
                found = self._linked(read, by, run_id, process_key, ordinal)
                if found is not None:
                    return found
        return None

    def _candidates(self, column: str, digest: str, before: str) -> Iterator[tuple[str, str, int]]:
        yield from self._database.execute(_CANDIDATES.format(column=column), (digest, before)).fetchall()

    def _linked(
        self, read: Checkpoint, by: Literal["file", "content"], run_id: str, process_key: str, ordinal: int
    ) -> Continuation | None:
        record = self._record(run_id)
        rows = () if record is None else record.checkpoints
        row = next((row for row in rows if (row.process_key, row.ordinal) == (process_key, ordinal)), None)
        if record is None or row is None or row.action != "written":
            return None
        if (row.file_digest if by == "file" else row.digest) != (read.file_digest if by == "file" else read.digest):
            return None
        return Continuation(
            process_key=read.process_key,
            checkpoint=read.ordinal,
            from_run_id=run_id,
            from_process_key=process_key,
            from_checkpoint=ordinal,
            matched_by=by,
            steps=canonical.dumps(_whole_steps(record, row)).decode(),
        )

    def _record(self, run_id: str) -> Record | None:
        """Return what is needed of a run, if it is what was signed."""
        if run_id not in self._records:
            try:
                found = integrity.load_part(self._directory(run_id), {}, only=_NEEDED)
            except ReproError:
                found = None
            self._records[run_id] = found
        return self._records[run_id]

    def _directory(self, run_id: str) -> RunDirectory:
        return RunDirectory(path=self._store.runs_path / run_id)

    def _age(self, run_id: str) -> float:
        try:
            return self._directory(run_id).statement.stat().st_mtime
        except OSError:
            return 0.0

    def _forget(self, run_id: str) -> None:
        with self._database:
            self._database.execute("DELETE FROM run WHERE run_id = ?", (run_id,))
            self._database.execute("DELETE FROM written WHERE run_id = ?", (run_id,))

    def _open(self) -> sqlite3.Connection:
        # A damaged one is thrown away; one that is locked is not damaged.
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                return _connected(self._path)
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                self._path.unlink(missing_ok=True)
                return _connected(self._path)
        except (OSError, sqlite3.Error) as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> ExecutionError:
        return ExecutionError(f"the index {self._path} cannot be used: {error}", hint="it is a cache: remove it")


def note(record: Record, store: Store) -> None:
    """Take in a run that was just sealed; where that fails, it is taken in when somebody asks."""
    with contextlib.suppress(ReproError), Writers(store) as writers:
        writers.add(record)


def _connected(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=_BUSY_SECONDS)
    database.execute("PRAGMA synchronous = OFF")  # after a power failure it is built anew
    database.executescript(_DDL)
    return database


def _whole_steps(record: Record, row: Checkpoint) -> Mapping[str, int]:
    """Return each anchor to its steps of the whole training when a checkpoint was written."""
    before = goes_on_at(record)
    steps = canonical.loads(row.steps.encode())
    return {anchor: int(count) + before.get((row.process_key, anchor), 0) for anchor, count in steps.items()}
