"""Hashing many files: one after the other, or in threads where that is faster.

`repro.evidence.hashing` says what was measured.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from repro.evidence.hashing import (
    LARGE_BYTES,
    Algorithm,
    AnyPath,
    NotHashedError,
    Outcome,
    Watch,
    has_to_be_waited_for,
    library_of,
    read_ahead,
    stable,
)

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor
    from queue import SimpleQueue

_One = Callable[[AnyPath, "int | None"], "Outcome | None"]

_BATCH: Final = 128
_COLD_THREADS: Final = 4
_COLD_TASK: Final = 64
"""Files that one thread asks the kernel for before it reads the first."""
_COLD_BACKLOG: Final = 2 * _COLD_THREADS * _COLD_TASK
_MOSTLY_WAITING: Final = 0.5
"""Share of the time in which a thread computes, below which files are called cold."""


def digest_files(
    paths: Sequence[AnyPath],
    algorithm: Algorithm = "sha256",
    *,
    progress: Callable[[int], None] | None = None,
    give_up: Callable[[], bool] | None = None,
) -> Iterator[tuple[int, Outcome]]:
    """Hash many files and yield, for each, its index in `paths` and what came of it, in any order.

    Args:
        paths: The files; links are followed.
        algorithm: For all of them.
        progress: Told how many bytes were hashed so far, a few times a second at most, from any thread.
        give_up: Asked often, from any thread, whether to stop; what is not hashed by then has an error that says so.

    Raises:
        UsageError: The algorithm is not installed.
    """
    library, watch = library_of(algorithm), Watch(progress, give_up)

    def one(path: AnyPath, limit_bytes: int | None) -> Outcome | None:
        return stable(path, library, watch, limit_bytes)

    pool = _Pool(one, watch)
    try:
        for start in range(0, len(paths), _BATCH):
            batch = range(start, min(start + _BATCH, len(paths)))
            pool.cold = pool.cold or (len(paths) > 1 and has_to_be_waited_for(paths[start]))
            if pool.cold:
                pool.put_cold(batch, paths)
                yield from pool.done(backlog=_COLD_BACKLOG)
            else:
                yield from _in_turn(batch, paths, pool, alone=len(paths) == 1)
                yield from pool.done(backlog=None)
        yield from pool.done(backlog=0)
    finally:
        pool.close()


def _in_turn(
    batch: Sequence[int], paths: Sequence[AnyPath], pool: _Pool, *, alone: bool
) -> Iterator[tuple[int, Outcome]]:
    """Hash small files here and now, leave large ones to the pool, and see how much of the time went by waiting."""
    found: list[tuple[int, Outcome]] = []
    began, computed = time.perf_counter(), time.thread_time()
    for index in batch:
        outcome = _outcome(pool.one, paths[index], None if alone else LARGE_BYTES)
        if outcome is None:
            pool.put_large(index, paths[index])
        else:
            found.append((index, outcome))
    waited = time.thread_time() - computed < _MOSTLY_WAITING * (time.perf_counter() - began)
    pool.cold = waited and len(found) > len(batch) // 2
    yield from found


class _Pool:
    """Threads for large files, as many as there are cores, and for files that have to be waited for."""

    def __init__(self, one: _One, watch: Watch) -> None:
        self.one = one
        self._watch = watch
        self.cold = False
        """Whether the files are such as have to be waited for. Once they are, they are all taken to be."""
        self._large: ThreadPoolExecutor | None = None
        self._waiting: ThreadPoolExecutor | None = None
        self._outcomes: SimpleQueue[tuple[int, Outcome]] | None = None
        self._pending = 0

    def put_large(self, index: int, path: AnyPath) -> None:
        self._large = self._large or self._threads(len(os.sched_getaffinity(0)))
        self._pending += 1
        self._large.submit(self._hash, ((index, path),))

    def put_cold(self, indices: Sequence[int], paths: Sequence[AnyPath]) -> None:
        self._waiting = self._waiting or self._threads(_COLD_THREADS)
        self._pending += len(indices)
        for start in range(0, len(indices), _COLD_TASK):
            self._waiting.submit(self._hash_cold, tuple((i, paths[i]) for i in indices[start : start + _COLD_TASK]))

    def done(self, backlog: int | None) -> Iterator[tuple[int, Outcome]]:
        """Yield what is done; wait until no more than `backlog` files are left, or for nothing if that is `None`."""
        while self._outcomes is not None and self._pending:
            if self._outcomes.empty() and (backlog is None or self._pending <= backlog):
                return
            self._pending -= 1
            yield self._outcomes.get()

    def close(self) -> None:
        for threads in (self._large, self._waiting):
            if threads is not None:
                self._watch.stop()
                threads.shutdown(wait=True, cancel_futures=True)

    def _threads(self, count: int) -> ThreadPoolExecutor:
        from concurrent.futures import ThreadPoolExecutor
        from queue import SimpleQueue

        self._outcomes = self._outcomes or SimpleQueue()
        return ThreadPoolExecutor(count, thread_name_prefix="hashing")

    def _hash_cold(self, task: Sequence[tuple[int, AnyPath]]) -> None:
        read_ahead([path for _, path in task])
        self._hash(task)

    def _hash(self, task: Iterable[tuple[int, AnyPath]]) -> None:
        for index, path in task:
            outcome = _outcome(self.one, path, None)
            if self._outcomes is not None:
                self._outcomes.put((index, outcome or Outcome(error="it was not hashed")))


def _outcome(one: _One, path: AnyPath, limit_bytes: int | None) -> Outcome | None:
    """Return what came of a file, whatever it is; `None` if it is larger than the limit."""
    try:
        return one(path, limit_bytes)
    except NotHashedError as error:
        return Outcome(error=str(error))
    except FileNotFoundError:
        return Outcome(error="it is gone")
    except OSError as error:
        return Outcome(error=f"it could not be read: {error.strerror or error}")
    except Exception as error:  # noqa: BLE001 - in a thread, and said in the record
        return Outcome(error=f"it could not be hashed: {type(error).__name__}: {error}")
