"""The code tree as it stood before the command started: every byte, its state against HEAD, and a readable diff."""

from __future__ import annotations

import configparser
import hashlib
import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from repro.errors import InconclusiveError
from repro.evidence import canonical
from repro.evidence.canonical import encode_path, storable
from repro.evidence.model import CodeFile, Fact, Gap
from repro.record import patch, worktree
from repro.record.capture import Context, Findings, observed
from repro.record.redact import url
from repro.record.worktree import Blob, Tree

MAX_UNTRACKED_BYTES: Final = 50 * 1024 * 1024
MAX_PLAIN_BYTES: Final = 10 * 1024 * 1024
MAX_TOTAL_BYTES: Final = 1024 * 1024 * 1024
"""Of untracked files, or of a plain folder, together."""
_IN_MEMORY_BYTES: Final = 16 * 1024 * 1024
_MAX_NAMED_GAPS: Final = 100
_State = Literal["committed", "modified", "untracked", "plain"]


class _NotStoredError(Exception):
    """A file of the tree was not stored; the text says why."""


@dataclass(frozen=True, slots=True)
class _Content:
    kind: Literal["file", "symlink"]
    mode: int
    size_bytes: int
    sha256: str
    blob_ids: tuple[str, ...]
    """What git would call these bytes: with SHA-1, and with SHA-256."""


def before(context: Context) -> Findings:
    """Store the tree. HEAD is read now: what is committed during the run is not what the run started from."""
    tree = _tree(context)
    files, gaps = _store(context, tree)
    gaps += tree.gaps
    facts = [observed("code", "tree", canonical.tree_digest(files))]
    if tree.is_git:
        deleted = any(path not in {file.path for file in files} for path in map(encode_path, tree.head))
        dirty = deleted or bool(gaps) or any(file.state != "committed" for file in files)
        facts.append(observed("code", "dirty", str(dirty).lower()))
    if tree.commit:
        facts.append(observed("code", "commit", tree.commit))
    return Findings(facts=tuple(facts), gaps=gaps, code_files=files)


def beside(context: Context) -> Findings:
    """Name branch and remotes, and write the readable diff."""
    commit = context.findings.fact("code", "commit")
    if context.code_paths is not None or context.findings.fact("code", "dirty") is None:
        return Findings()
    diff, gaps = patch.against_head(context, commit)
    facts = [observed("code", "diff", context.objects.put(diff))] if diff else []
    named, more = _named(context.root, commit, context)
    return Findings(facts=(*facts, *named), gaps=gaps + more)


def _tree(context: Context) -> Tree:
    if context.code_paths is not None:
        return Tree(paths=tuple(canonical.decode_path(path) for path in context.code_paths))
    if not worktree.is_work_tree(context.root):
        return worktree.list_plain(context.root)
    try:
        return worktree.list_git(context.root, context.environment)
    except worktree.GitError as error:
        plain = worktree.list_plain(context.root)
        reason = storable(f"git could not be asked, so this was taken as a plain folder: {error}")
        return replace(plain, gaps=(*plain.gaps, Gap(topic="code", subject=encode_path(context.root), reason=reason)))


def _store(context: Context, tree: Tree) -> tuple[tuple[CodeFile, ...], tuple[Gap, ...]]:
    files: list[CodeFile] = []
    gaps: list[Gap] = []
    left_bytes = MAX_TOTAL_BYTES
    for path in sorted(tree.paths):
        loose = path in tree.untracked
        try:
            content = _content(context, path, _limit(tree, left_bytes) if loose else None)
        except FileNotFoundError:
            # A tracked file that is gone was deleted by the user, and that is what the diff says.
            if context.code_paths is not None or loose:
                gaps.append(_gap(path, "it was gone when the tree was captured"))
            continue
        except _NotStoredError as error:
            gaps.append(_gap(path, str(error)))
            continue
        left_bytes -= content.size_bytes if loose else 0
        files.append(_code_file(path, content, _state(tree, path, content, context)))
    return tuple(files), _summarised(gaps)


def _limit(tree: Tree, left_bytes: int) -> int:
    return min(MAX_UNTRACKED_BYTES if tree.is_git else MAX_PLAIN_BYTES, left_bytes)


def _code_file(path: bytes, content: _Content, state: _State) -> CodeFile:
    return CodeFile(
        path=encode_path(path),
        kind=content.kind,
        mode=content.mode,
        size_bytes=content.size_bytes,
        sha256=content.sha256,
        state=state,
    )


def _gap(path: bytes, reason: str) -> Gap:
    return Gap(topic="code", subject=encode_path(path), reason=f"{reason}: not in the captured tree")


def _summarised(gaps: list[Gap]) -> tuple[Gap, ...]:
    """Name the first gaps one by one and count the rest, so that a folder of images does not drown the report."""
    if len(gaps) <= _MAX_NAMED_GAPS:
        return tuple(gaps)
    rest = len(gaps) - _MAX_NAMED_GAPS
    reason = "they are too large, not regular files, or not readable: not in the captured tree"
    return (*gaps[:_MAX_NAMED_GAPS], Gap(topic="code", subject=f"{rest} more files", reason=reason))


def _content(context: Context, path: bytes, limit_bytes: int | None) -> _Content:
    """Read one file and store its bytes.

    Raises:
        FileNotFoundError: It is not there.
        _NotStoredError: It is no file, too large, unreadable, or keeps changing.
    """
    full = Path(os.fsdecode(os.path.join(os.fsencode(context.root), path)))  # noqa: PTH118 - bytes
    try:
        about = full.lstat()
        if stat.S_ISLNK(about.st_mode):
            return _link(context, os.fsencode(full.readlink()), about)
        if not stat.S_ISREG(about.st_mode):
            raise _NotStoredError("it is not a regular file")
        if limit_bytes is not None and about.st_size > limit_bytes:
            raise _NotStoredError(f"it is untracked and too large ({about.st_size} bytes, {limit_bytes} are left)")
        return _stable(context, full)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(full) from None
    except OSError as error:
        raise _NotStoredError(f"it is not readable ({error.strerror})") from error


def _link(context: Context, target: bytes, about: os.stat_result) -> _Content:
    digest = context.objects.put(target)
    return _Content("symlink", stat.S_IMODE(about.st_mode), len(target), digest, _blob_ids(target))


def _stable(context: Context, path: Path) -> _Content:
    """Read a file that may be written to at this moment: try twice, then give up."""
    for _ in range(2):
        try:
            return _file(context, path)
        except InconclusiveError:
            continue
    raise _NotStoredError("it changed while it was read")


def _file(context: Context, path: Path) -> _Content:
    # O_NONBLOCK: a FIFO may have taken the place of the file since it was looked at.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise _NotStoredError("it is not a regular file")
        mode = stat.S_IMODE(about.st_mode)
        if about.st_size > _IN_MEMORY_BYTES:
            digest, size_bytes = context.objects.put_file(path)
            with context.objects.path(digest).open("rb") as stored:
                return _Content("file", mode, size_bytes, digest, _blob_ids_of_file(stored.fileno(), size_bytes))
        data = file.read()
        if _moment(os.fstat(descriptor)) != _moment(about):
            raise InconclusiveError(f"{path} changed while it was read")
    return _Content("file", mode, len(data), context.objects.put(data), _blob_ids(data))


def _moment(about: os.stat_result) -> tuple[int, int, int, int]:
    return about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns


def _blob_ids(data: bytes) -> tuple[str, ...]:
    header = b"blob %d\0" % len(data)
    return hashlib.sha1(header + data, usedforsecurity=False).hexdigest(), hashlib.sha256(header + data).hexdigest()


def _blob_ids_of_file(descriptor: int, size_bytes: int) -> tuple[str, ...]:
    hashers = hashlib.sha1(usedforsecurity=False), hashlib.sha256()
    for hasher in hashers:
        hasher.update(b"blob %d\0" % size_bytes)
    while chunk := os.read(descriptor, 1024 * 1024):
        for hasher in hashers:
            hasher.update(chunk)
    return tuple(hasher.hexdigest() for hasher in hashers)


def _state(tree: Tree, path: bytes, content: _Content, context: Context) -> _State:
    if not tree.is_git:
        return "plain"
    blob = tree.head.get(path)
    if blob is None:
        return "untracked" if path in tree.untracked else "modified"
    same = blob.object_id in content.blob_ids or _is_fetched_lfs(blob, content, context)
    return "committed" if same and _same_kind(blob.mode, content) else "modified"


def _same_kind(mode: int, content: _Content) -> bool:
    """Compare as git does: link or file, and whether its owner may execute it."""
    if stat.S_ISLNK(mode) or content.kind == "symlink":
        return stat.S_ISLNK(mode) and content.kind == "symlink"
    return bool(mode & 0o100) == bool(content.mode & 0o100)


def _is_fetched_lfs(blob: Blob, content: _Content, context: Context) -> bool:
    """Say whether HEAD has a Git LFS pointer to exactly these bytes."""
    oid = content.sha256.removeprefix("sha256:")
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {content.size_bytes}\n".encode(
        "ascii"
    )
    return blob.object_id in _blob_ids(pointer)


def _named(root: Path, commit: str | None, context: Context) -> tuple[tuple[Fact, ...], tuple[Gap, ...]]:
    """Ask GitPython for what has a name: branch, remotes, the nearest tag."""
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    import git
    from git.exc import GitError

    facts: list[Fact] = []
    try:
        with git.Repo(root) as repository:
            repository.git.update_environment(**worktree.safe_environment(context.environment))
            repository.git.set_persistent_git_options(c=list(worktree.SAFE_OPTIONS))
            if not repository.head.is_detached:
                facts.append(observed("code", "branch", storable(repository.active_branch.name)))
            for remote in repository.remotes:
                address = remote.config_reader.get_value("url", "")
                facts.append(observed("code", f"remote.{storable(remote.name)}", url(storable(str(address)))))
            if commit:
                facts.append(observed("code", "describe", repository.git.describe("--tags", "--always", commit)))
    except (GitError, configparser.Error, ValueError, OSError, KeyError) as error:
        reason = storable(f"branch, remotes or tag could not be read: {type(error).__name__}")
        return tuple(facts), (Gap(topic="code", subject=encode_path(root), reason=reason),)
    return tuple(facts), ()
