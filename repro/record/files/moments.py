"""The right moment: which digest may be claimed for a file, given what it was when the run first read it.

The digest of an input is that of its content when it was first read. It is known from the code tree that was captured
before, from a digest taken just before the run first wrote to the file, or from the file itself as long as nothing has
changed it since: same size, inode, time of modification and time of change. Nothing sets the last one back.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from repro.errors import InconclusiveError
from repro.evidence import hashing, manyfiles
from repro.evidence.canonical import decode_path
from repro.evidence.model import CodeFile, Gap
from repro.record.capture import Context
from repro.record.files.lineage import TICK_NS, History, Touched
from repro.record.files.listing import Listing
from repro.record.files.territory import Category, Territory
from repro.record.statcache import StatCache, State

_NEVER_HASHED: Final = ("/proc/", "/sys/")
_MAX_STORED_CODE_BYTES: Final = 10 * 1024 * 1024
_SAY_AFTER_SECONDS: Final = 1.0
_NAMED: Final = 5
"""How many files a gap about many names."""
CHANGED: Final = "it changed after it was first read: what the run read is not known"


@dataclass(slots=True, kw_only=True)
class Content:
    """What is known of a file's content. Not frozen: there are as many as files, and each would take a third longer."""

    digest: str | None = None
    size_bytes: int | None = None
    modified_at_ns: int | None = None
    changed: bool = False
    place: str | None = None
    """Path of the file that has it: to be hashed, once all are known, where there is no digest yet."""
    about: os.stat_result | None = None
    """What that file must still be then."""


class Moments:
    """Finds the content of files as the run had it.

    Args:
        context: What the recorder knows of the run.
        territory: Its folders.
        history: What it did to files.
    """

    def __init__(self, context: Context, territory: Territory, history: History) -> None:
        self.gaps: list[Gap] = []
        self._context = context
        self._territory = territory
        self._history = history
        self._names = history.names()
        self._tree = {file.path: file for file in context.findings.code_files if file.kind == "file"}
        self._said_at = time.monotonic()
        self._caches: dict[hashing.Algorithm, StatCache] = {}

    def look(self, path: str) -> tuple[str, os.stat_result | None]:
        """Return where a file that the run read lies now, which may have another name, and its state."""
        about = state(path)
        if about is None:
            for name in self._other_names(path):
                if (found := state(name)) is not None:
                    return name, found
        return path, about

    def output(self, about: os.stat_result, path: str, raw: bytes | None = None) -> Content:
        """Return the content of a file that the run left, or never touched.

        Args:
            about: Its state.
            path: Absolute.
            raw: The same, decoded, where that is known.
        """
        return self._as_it_is(path, about, raw)

    def input(self, read: Touched, place: str, about: os.stat_result | None, category: Category) -> Content:
        """Return the content of a file when the run first read it, as far as that is known."""
        then = Content(digest=read.before, size_bytes=read.size_bytes, modified_at_ns=read.mtime_ns)
        captured = self._tree.get(self._territory.relative(read.path))
        if captured is not None and self._is_captured(read, captured):
            return replace(then, digest=captured.sha256, size_bytes=captured.size_bytes)
        if read.before is not None:
            return then
        if about is None:
            if category != "temporary":
                self._gap(read.path, "it was read, and is gone: its content is not known")
            return then
        if self._is_unchanged(read, place, about):
            return self._as_it_is(place, about)
        self._gap(read.path, CHANGED)
        return replace(then, changed=True)

    def known(self, folder: str, listing: Listing, states: Sequence[State]) -> Sequence[str | None]:
        """Return the digest of each file in a folder that has not changed since it was last hashed.

        Args:
            folder: The listing's, encoded; no output of the run lies in it.
            listing: Its files.
            states: What `statcache.state_of` returns of each.
        """
        if folder.startswith(_NEVER_HASHED):
            return [None] * len(states)
        return self._cache(self._context.settings.hash).digests(listing.folder, listing.names, states)

    def hash(self, contents: list[Content]) -> None:
        """Hash what is left to be hashed; each file once."""
        left = [each for each in contents if each.place is not None and each.digest is None]
        wanted = {each.place: each.about for each in left if each.place is not None}
        outcomes = dict(self._outcomes(wanted))
        self._say_given_up([path for path, outcome in outcomes.items() if outcome.error == hashing.GIVEN_UP])
        for each in left:
            if each.place is not None:
                self._settle(each, each.place, outcomes[each.place])
        for cache in self._caches.values():
            cache.save()

    def keep(self, path: str, category: Category, content: Content) -> Content:
        """Store code that is not in the captured tree, so that a replay has it."""
        if category != "code" or content.place is None:
            return content
        size_bytes = content.size_bytes or 0
        if self._territory.relative(path) in self._tree or size_bytes > _MAX_STORED_CODE_BYTES:
            return content
        try:
            digest = self._context.objects.put_file(Path(os.fsdecode(decode_path(content.place))))[0]
        except (OSError, InconclusiveError):
            return content  # hashing it will say why
        return replace(content, digest=digest)

    def _as_it_is(self, path: str, about: os.stat_result, raw: bytes | None = None) -> Content:
        """Return the content of a file as it stands; what has not changed since it was last hashed is known."""
        if not stat.S_ISREG(about.st_mode) or path.startswith(_NEVER_HASHED):
            return Content(modified_at_ns=about.st_mtime_ns)
        digest = self._cache(self._algorithm(path)).digest(raw or decode_path(path), about)
        return Content(
            digest=digest, size_bytes=about.st_size, modified_at_ns=about.st_mtime_ns, place=path, about=about
        )

    def _algorithm(self, path: str) -> hashing.Algorithm:
        """Return how to hash a file.

        What the run left is hashed with SHA-256 whatever the settings say: the signed statement names it by that.
        """
        return "sha256" if path in self._history.outputs else self._context.settings.hash

    def _cache(self, algorithm: hashing.Algorithm) -> StatCache:
        cache = self._caches.get(algorithm)
        if cache is None:
            cache = self._caches[algorithm] = data_cache(self._context, algorithm)
        return cache

    def _other_names(self, path: str) -> Iterable[str]:
        """Yield the names that the run gave a file, by renaming or linking it or a folder above it."""
        folder = path
        while folder:
            for name in self._names.get(folder, ()):
                yield name + path[len(folder) :]
            folder = folder.rpartition("/")[0]

    def _is_captured(self, read: Touched, captured: CodeFile) -> bool:
        """Say whether a file of the code tree was read as it was captured."""
        unchanged = read.mtime_ns is not None and read.mtime_ns < self._context.started_at_ns
        return unchanged and read.size_bytes == captured.size_bytes

    def _is_unchanged(self, read: Touched, place: str, about: os.stat_result) -> bool:
        named_anew = place != read.path or any(True for _ in self._other_names(read.path))  # which changes its ctime
        if read.inode is None:  # its state is not known, but the time when it was opened is
            last_ns = about.st_mtime_ns if named_anew else max(about.st_mtime_ns, about.st_ctime_ns)
            return last_ns + TICK_NS < read.at * 1e9
        then = (read.size_bytes, read.mtime_ns, read.inode)
        if then != (about.st_size, about.st_mtime_ns, about.st_ino):
            return False
        if read.ctime_ns is None or named_anew:
            return True
        is_racy = read.at * 1e9 - read.ctime_ns < TICK_NS and read.path in self._history.outputs
        return read.ctime_ns == about.st_ctime_ns and not is_racy

    def _outcomes(self, wanted: dict[str, os.stat_result | None]) -> Iterable[tuple[str, hashing.Outcome]]:
        """Yield what came of hashing each file."""
        by_algorithm: dict[hashing.Algorithm, list[str]] = {}
        for path in wanted:
            by_algorithm.setdefault(self._algorithm(path), []).append(path)
        for algorithm, paths in by_algorithm.items():
            cache, places = self._cache(algorithm), [decode_path(path) for path in paths]
            for index, outcome in manyfiles.digest_files(
                places, algorithm, give_up=lambda: self._context.patience.lost
            ):
                self._say(paths[index])
                if outcome.digest is not None and outcome.about is not None:
                    cache.remember(places[index], outcome.about, outcome.digest)
                yield paths[index], outcome

    def _settle(self, content: Content, path: str, outcome: hashing.Outcome) -> None:
        if outcome.digest is None:
            if outcome.error != hashing.GIVEN_UP:  # of which there is one gap, however many files it is
                self._gap(path, f"it could not be hashed: {outcome.error}")
        elif outcome.about is not None and content.about is not None and _moved_on(outcome.about, content.about):
            self._gap(path, CHANGED)
            content.changed = True
        else:
            content.digest = outcome.digest

    def _say_given_up(self, paths: list[str]) -> None:
        if not paths:
            return
        first = ", ".join(self._territory.relative(path) for path in sorted(paths)[:_NAMED])
        more = ", …" if len(paths) > _NAMED else ""
        reason = f"the recorder was asked to end before it had hashed these: {first}{more} ({len(paths)} files)"
        self.gaps.append(Gap(topic="data", subject="files", reason=reason))

    def _say(self, path: str) -> None:
        if time.monotonic() - self._said_at > _SAY_AFTER_SECONDS:
            self._said_at = time.monotonic()
            self._context.progress(f"hashing data files … {path.rpartition('/')[2]}")

    def _gap(self, path: str, reason: str) -> None:
        self.gaps.append(Gap(topic="data", subject=self._territory.relative(path), reason=reason))


def data_cache(context: Context, algorithm: hashing.Algorithm) -> StatCache:
    """Return the digests of data that are known from before."""
    return StatCache(context.cache / "stat" / "data", algorithm, roots=(os.fsencode(context.root),))


def state(path: str | bytes) -> os.stat_result | None:
    """Return the state of a file, or `None` where there is none, or a folder.

    Args:
        path: Encoded, or as it is.
    """
    try:
        about = os.stat(path if isinstance(path, bytes) else decode_path(path))  # noqa: PTH116 - bytes
    except (OSError, ValueError):
        return None
    return None if stat.S_ISDIR(about.st_mode) else about


def _moved_on(now: os.stat_result, then: os.stat_result) -> bool:
    return (now.st_size, now.st_mtime_ns, now.st_ino) != (then.st_size, then.st_mtime_ns, then.st_ino)
