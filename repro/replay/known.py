"""Digests of files here, with the recorder's own memory of what it hashed before."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from repro.evidence.hashing import Algorithm, Outcome
from repro.evidence.manyfiles import digest_files
from repro.record.statcache import StatCache


class Known:
    """Hashes files, each once as long as it does not change."""

    def __init__(self, cache: Path | None) -> None:
        """Use the stat cache below the store's cache folder; none if that is `None`."""
        self._cache = cache
        self._memories: dict[Algorithm, StatCache] = {}

    def digests(
        self,
        files: Sequence[tuple[bytes, os.stat_result]],
        algorithm: Algorithm,
        progress: Callable[[str], None] = lambda _: None,
    ) -> list[Outcome]:
        """Return what came of hashing each file, in the given order.

        Raises:
            UsageError: The algorithm is not installed.
        """
        memory = self._memory(algorithm)
        found = [self._remembered(memory, path, about) for path, about in files]
        missing = [index for index, outcome in enumerate(found) if outcome is None]
        if not missing:
            return [outcome for outcome in found if outcome is not None]
        total = sum(files[index][1].st_size for index in missing)
        for position, outcome in digest_files(
            [files[i][0] for i in missing], algorithm, progress=_teller(total, progress)
        ):
            index = missing[position]
            found[index] = outcome
            if memory is not None and outcome.digest is not None and outcome.about is not None:
                memory.remember(files[index][0], outcome.about, outcome.digest)
        return [outcome or Outcome(error="it was not hashed") for outcome in found]

    def save(self) -> None:
        """Keep what was hashed for the next time."""
        for memory in self._memories.values():
            memory.save()

    def _memory(self, algorithm: Algorithm) -> StatCache | None:
        if self._cache is None:
            return None
        if algorithm not in self._memories:
            self._memories[algorithm] = StatCache(self._cache / "stat", algorithm)
        return self._memories[algorithm]

    @staticmethod
    def _remembered(memory: StatCache | None, path: bytes, about: os.stat_result) -> Outcome | None:
        digest = memory.digest(path, about) if memory is not None else None
        return Outcome(digest=digest, size_bytes=about.st_size, about=about) if digest else None


def _teller(total: int, progress: Callable[[str], None]) -> Callable[[int], None]:
    """Return what tells of large amounts only, once for each tenth."""
    told = [0]

    def tell(done: int) -> None:
        tenth = done * 10 // total if total > 1 << 32 else 0
        if tenth > told[0]:
            told[0] = tenth
            progress(f"checked {done / 1e9:.1f} of {total / 1e9:.1f} GB")

    return tell
