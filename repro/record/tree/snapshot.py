"""A snapshot of a code tree: every file that was listed, its bytes in the object store, its state against HEAD."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from repro.evidence import hashing
from repro.evidence.canonical import decode_path, encode_path
from repro.evidence.model import CodeFile, Gap
from repro.evidence.objects import Objects
from repro.record import redact
from repro.record.collection import no_collection
from repro.record.statcache import StatCache
from repro.record.tree.contents import Content, NotKeptError, Read, blob_ids, open_plain, read, store
from repro.record.tree.worktree import Blob, Tree

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

MAX_UNTRACKED_BYTES: Final = 50 * 1024 * 1024
MAX_PLAIN_BYTES: Final = 10 * 1024 * 1024
MAX_TOTAL_BYTES: Final = 1024 * 1024 * 1024
"""Of untracked files, or of a plain folder, together."""
STORED_AT_ONCE_BYTES: Final = 32 * 1024 * 1024
"""Of committed files, together: what is beyond that is stored beside the command, from the disk or from git."""
_FILE_BYTES: Final = 64 * 1024
"""What storing a file costs besides its bytes, in bytes."""
_LENGTHS: Final = {"sha1": 40, "sha256": 64}
"""Hash function of a repository to the hexadecimal digits of its object names."""
_CODE: Final = (
    b".py",
    b".sh",
    b".ipynb",
    b".toml",
    b".cfg",
    b".yaml",
    b".yml",
    b".json",
    b".txt",
    b".c",
    b".cpp",
    b".cu",
)
_MANY_FILES: Final = 500
_BATCH: Final = 64
"""Files that one thread has the kernel read ahead: so a thread for each core is enough, and more would only wait for
Python's lock (2 GB in memory: 1.6 s with two threads on two cores, 2.8 s with eight)."""
_BATCHES_AHEAD: Final = 4
_MAX_NAMED_GAPS: Final = 100
State = Literal["committed", "modified", "untracked", "ignored", "editable", "plain"]


Blobs = Callable[[frozenset[str]], Mapping[str, bytes]]
"""What git has of files, by encoded path."""


_Looked = Read | Content | FileNotFoundError | NotKeptError
_Batch = tuple[list[_Looked | os.stat_result], "Future[list[_Looked]] | None"]
"""What is known of some files, with the state of those that are not, and what comes of reading those."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What was kept of a tree."""

    files: tuple[CodeFile, ...]
    gaps: tuple[Gap, ...]
    """Of the files that were not kept, and of what is not the content that a file stands for."""
    complete: bool
    """Whether every file that is there was kept."""
    modified_at_ns: int
    """When the youngest file was last modified, in nanoseconds since the epoch."""


def take(
    objects: Objects,
    root: Path,
    tree: Tree,
    *,
    cache: StatCache | None = None,
    state: State | None = None,
    must_be_there: bool = False,
) -> Snapshot:
    """Read every file of a tree, and store the bytes that git does not have as well.

    A tree of many committed files is stored by `secure`, later: copying takes longer than hashing.

    Args:
        objects: Where the bytes go.
        root: What the paths of the tree are relative to.
        tree: What there is.
        cache: What is known of the files from before.
        state: The state of every file, which is then named by its absolute path; else it is found against HEAD.
        must_be_there: A tracked file that is gone is a gap too; else the user deleted it, as the diff says.
    """
    taking = _Taking(objects, root, tree, state, must_be_there, cache)
    with no_collection():
        return taking.run()


def secure(objects: Objects, root: Path, files: Iterable[CodeFile], blobs: Blobs) -> tuple[Gap, ...]:
    """Store what `take` left for later: the bytes of committed files that the store does not hold yet.

    Args:
        objects: Where the bytes go.
        root: What the paths are relative to.
        files: What `take` found.
        blobs: Asked if a file has changed meanwhile.
    """
    changed: list[CodeFile] = []
    for file in files:
        if file.state == "committed" and not holds(objects, file.sha256, file.size_bytes):
            full = os.fsencode(root) + b"/" + decode_path(file.path)
            try:
                found = read(full, None, ())
                if found.content.sha256 != file.sha256:
                    raise NotKeptError("it changed")
                store(objects, full, found)
            except (FileNotFoundError, NotKeptError):
                changed.append(file)
    known = blobs(frozenset(file.path for file in changed)) if changed else {}
    lost = [file for file in changed if file.path not in known or objects.put(known[file.path]) != file.sha256]
    reason = "the run changed it before its bytes were stored, and git does not have them: only its digest is known"
    return tuple(Gap(topic="code", subject=file.path, reason=reason) for file in lost)


def holds(objects: Objects, digest: str, size_bytes: int) -> bool:
    """Say whether the store has an object in full size."""
    name = digest.removeprefix("sha256:")
    try:
        return os.stat(f"{objects.root}/{name[:2]}/{name[2:]}").st_size == size_bytes  # noqa: PTH116 - 50,000 of them
    except OSError:
        return False


class _Taking:
    def __init__(
        self,
        objects: Objects,
        root: Path,
        tree: Tree,
        state: State | None,
        must_be_there: bool,
        cache: StatCache | None,
    ) -> None:
        self._objects = objects
        self._root = os.fsencode(root)
        self._tree = tree
        self._fixed_state = state
        self._must_be_there = must_be_there
        self._cache = cache
        self._algorithms = _algorithms(tree)
        self._left_bytes = MAX_TOTAL_BYTES
        self._now_bytes = STORED_AT_ONCE_BYTES
        self._links: dict[bytes, bool] = {b"": False, b"/": False}
        self._files: list[CodeFile] = []
        self._not_kept: list[Gap] = []
        self._pointers: list[Gap] = []
        self._modified_at_ns = 0

    def run(self) -> Snapshot:
        # Code before data, where there is a limit to use up.
        loose = self._tree.untracked
        paths = sorted(self._tree.paths, key=lambda path: (path in loose and not path.endswith(_CODE), path))
        for path, looked in zip(paths, self._looks(paths), strict=True):
            self._take(path, looked)
        if self._cache is not None:
            self._cache.save()
        return Snapshot(
            files=tuple(sorted(self._files, key=attrgetter("path"))),
            gaps=(*_summarised(self._not_kept, _NOT_KEPT), *_summarised(self._pointers, _POINTERS)),
            complete=not self._not_kept,
            modified_at_ns=self._modified_at_ns,
        )

    def _looks(self, paths: list[bytes]) -> Iterator[_Looked]:
        """Yield what each path holds, from the cache or read now; of many, some batches are read ahead in threads."""
        if len(paths) < _MANY_FILES:
            for path in paths:
                found = self._known(path)
                yield self._read((path, found)) if isinstance(found, os.stat_result) else found
            return
        from concurrent.futures import ThreadPoolExecutor  # 3 ms, which a small tree need not pay

        threads = len(os.sched_getaffinity(0))
        ahead: deque[_Batch] = deque()
        with ThreadPoolExecutor(threads, thread_name_prefix="code") as pool:
            for start in range(0, len(paths), _BATCH):
                ahead.append(self._begin(paths[start : start + _BATCH], pool))
                if len(ahead) > _BATCHES_AHEAD * threads:
                    yield from _finished(ahead.popleft())
            while ahead:
                yield from _finished(ahead.popleft())

    def _begin(self, paths: list[bytes], pool: ThreadPoolExecutor) -> _Batch:
        known = [self._known(path) for path in paths]
        unread = [(path, found) for path, found in zip(paths, known, strict=True) if isinstance(found, os.stat_result)]
        return known, pool.submit(self._batch, unread) if unread else None

    def _batch(self, unread: list[tuple[bytes, os.stat_result]]) -> list[_Looked]:
        files = [self._full(path) for path, about in unread if stat.S_ISREG(about.st_mode)]
        hashing.read_ahead(files, open_plain)
        return [self._read(item) for item in unread]

    def _full(self, path: bytes) -> bytes:
        return path if path[:1] == b"/" else self._root + b"/" + path

    def _known(self, path: bytes) -> _Looked | os.stat_result:
        """Return what a path is known to hold, or its state where it has to be read."""
        if path in self._tree.untracked and redact.is_secret_file(path):
            return NotKeptError("its name says that it holds secrets, and git does not track it")
        try:
            if self._behind_link(path.rpartition(b"/")[0]):
                return FileNotFoundError()
            about = os.lstat(self._full(path))
        except (FileNotFoundError, NotADirectoryError):
            return FileNotFoundError()
        except OSError as error:
            return NotKeptError(f"it is not readable ({error.strerror})")
        if stat.S_ISDIR(about.st_mode):  # what is in it now is listed by itself
            return FileNotFoundError()
        known = self._remembered(path, about) if self._cache and stat.S_ISREG(about.st_mode) else None
        return about if known is None else known

    def _remembered(self, path: bytes, about: os.stat_result) -> Content | None:
        """Return what the cache has of a file, if that tells what this repository calls it."""
        found = self._cache.recall(self._full(path), about) if self._cache else None
        if found is None or [len(name) for name in found[2:]] != [_LENGTHS[name] for name in self._algorithms]:
            return None
        mode, oid = stat.S_IMODE(about.st_mode), found[1] if len(found) > 1 else ""
        return Content("file", mode, about.st_size, found[0], found[2:], oid or None, about.st_mtime_ns)

    def _read(self, unread: tuple[bytes, os.stat_result]) -> _Looked:
        path, about = unread
        try:
            return read(self._full(path), self._limit(path in self._tree.untracked), self._algorithms, about)
        except (FileNotFoundError, NotKeptError) as error:
            return error

    def _take(self, path: bytes, looked: _Looked) -> None:
        loose = path in self._tree.untracked
        if isinstance(looked, FileNotFoundError):
            if self._must_be_there or loose:
                self._gap(path, "it was gone when the tree was captured")
            return
        if isinstance(looked, Read) and self._cache is not None and looked.content.kind == "file":
            content = looked.content
            values = (content.lfs_oid or "", *content.blob_ids)
            self._cache.remember(self._full(path), looked.about, content.sha256, values)
        try:
            if isinstance(looked, Exception):
                raise looked
            row = self._kept(path, looked, loose)
        except (NotKeptError, FileNotFoundError) as error:
            self._gap(path, str(error))
            return
        self._files.append(row)

    def _kept(self, path: bytes, looked: Read | Content, loose: bool) -> CodeFile:
        content = looked.content if isinstance(looked, Read) else looked
        limit_bytes = self._limit(loose)
        if limit_bytes is not None and content.size_bytes > limit_bytes:
            raise NotKeptError(f"it is untracked and too large ({content.size_bytes} bytes, {limit_bytes} are left)")
        row = self._row(path, content)
        if row.state != "committed" or (isinstance(looked, Read) and self._now_bytes > 0):
            self._store(path, looked)
        self._left_bytes -= content.size_bytes if loose else 0
        self._modified_at_ns = max(self._modified_at_ns, content.mtime_ns)
        if content.lfs_oid:
            reason = f"Git LFS did not fetch its content, sha256:{content.lfs_oid}: only the pointer to it was captured"
            self._pointers.append(Gap(topic="code", subject=row.path, reason=reason))
        return row

    def _store(self, path: bytes, looked: Read | Content) -> None:
        content = looked.content if isinstance(looked, Read) else looked
        if holds(self._objects, content.sha256, content.size_bytes):
            return
        self._now_bytes -= content.size_bytes + _FILE_BYTES
        full = self._full(path)
        found = looked if isinstance(looked, Read) else read(full, None, ())
        if found.content.sha256 != content.sha256:
            raise NotKeptError("it changed while it was read")
        store(self._objects, full, found)

    def _row(self, path: bytes, content: Content) -> CodeFile:
        return CodeFile(
            path=self._name(path),
            kind=content.kind,
            mode=content.mode,
            size_bytes=content.size_bytes,
            sha256=content.sha256,
            state=self._fixed_state or _state(self._tree, path, content),
        )

    def _name(self, path: bytes) -> str:
        return encode_path(self._root + b"/" + path if self._fixed_state else path)

    def _limit(self, loose: bool) -> int | None:
        if not loose:
            return None
        return min(MAX_UNTRACKED_BYTES if self._tree.is_git else MAX_PLAIN_BYTES, self._left_bytes)

    def _gap(self, path: bytes, reason: str) -> None:
        self._not_kept.append(Gap(topic="code", subject=self._name(path), reason=f"{reason}: not in the captured tree"))

    def _behind_link(self, folder: bytes) -> bool:
        """Say whether a folder of the tree is a symbolic link now, or lies behind one: its files belong elsewhere."""
        known = self._links.get(folder)
        if known is None:
            known = self._behind_link(folder.rpartition(b"/")[0]) or _is_link(self._root + b"/" + folder)
            self._links[folder] = known
        return known and not self._must_be_there


def _algorithms(tree: Tree) -> tuple[str, ...]:
    """Return the hash function of the repository, as the length of its object names tells."""
    lengths = {len(blob.object_id) for blob in tree.head.values()}
    return tuple(name for name, length in _LENGTHS.items() if length in lengths)


def _finished(batch: _Batch) -> Iterator[_Looked]:
    known, future = batch
    read_now = iter(() if future is None else future.result())
    for found in known:
        yield next(read_now) if isinstance(found, os.stat_result) else found


def _is_link(path: bytes) -> bool:
    try:
        return stat.S_ISLNK(os.lstat(path).st_mode)
    except OSError:
        return False


_NOT_KEPT: Final = "they are too large, not regular files, or not readable: not in the captured tree"
_POINTERS: Final = "Git LFS did not fetch their content: only the pointers to it were captured"


def _summarised(gaps: list[Gap], reason: str) -> tuple[Gap, ...]:
    """Name the first gaps one by one and count the rest, so that a folder of images does not drown the report."""
    if len(gaps) <= _MAX_NAMED_GAPS:
        return tuple(gaps)
    rest = len(gaps) - _MAX_NAMED_GAPS
    return (*gaps[:_MAX_NAMED_GAPS], Gap(topic="code", subject=f"{rest} more files", reason=reason))


def _state(tree: Tree, path: bytes, content: Content) -> State:
    if not tree.is_git:
        return "editable" if path[:1] == b"/" else "plain"
    blob = tree.head.get(path)
    if blob is None:
        return "untracked" if path in tree.untracked else "modified"
    same = blob.object_id in content.blob_ids or _is_fetched_lfs(blob, content)
    return "committed" if same and _same_kind(blob.mode, content) else "modified"


def _same_kind(mode: int, content: Content) -> bool:
    """Compare as git does: link or file, and whether its owner may execute it."""
    if stat.S_ISLNK(mode) or content.kind == "symlink":
        return stat.S_ISLNK(mode) and content.kind == "symlink"
    return bool(mode & 0o100) == bool(content.mode & 0o100)


def _is_fetched_lfs(blob: Blob, content: Content) -> bool:
    """Say whether HEAD has a Git LFS pointer to exactly these bytes."""
    oid = content.sha256.removeprefix("sha256:")
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {content.size_bytes}\n"
    return blob.object_id in blob_ids(pointer.encode("ascii"))
