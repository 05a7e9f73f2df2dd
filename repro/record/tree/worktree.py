"""Which files are the code tree: asked of git, or walked in a plain folder.

The bytes of the tree are read and hashed by ourselves, never through git's index, which can be told to look away
(`assume-unchanged`), and never through git's filters, which are programs.
"""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from repro.evidence.canonical import encode_path, storable
from repro.evidence.model import Gap
from repro.record.tree.askgit import GitError, finish_git, git, start_git

MAX_PLAIN_FILES: Final = 50_000
_SKIPPED: Final = {".git", ".hg", ".svn", "__pycache__", "node_modules", ".tox", ".nox", ".eggs", ".ipynb_checkpoints"}
_MAX_SUBMODULE_DEPTH: Final = 10
_HEAD: Final = "HEAD^{commit}"
_GITLINK: Final = b"160000"


@dataclass(frozen=True, slots=True)
class Blob:
    """A file as HEAD has it."""

    repository: Path
    mode: int
    object_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """The paths of a code tree, as bytes relative to its root, and what HEAD has of them."""

    paths: tuple[bytes, ...]
    untracked: frozenset[bytes] = frozenset()
    sparse: frozenset[bytes] = frozenset()
    """Tracked files that need not be there: a sparse checkout left them out."""
    head: Mapping[bytes, Blob] = field(default_factory=dict)
    commit: str | None = None
    is_git: bool = False
    gaps: tuple[Gap, ...] = ()


def find_root(working_directory: Path, environment: Mapping[str, str]) -> tuple[Path, tuple[Gap, ...]]:
    """Return the root of the code tree: the git work tree, else the working directory; with a gap where git refused.

    The root is the working directory or above it, and holds a `.git`: a repository whose configuration puts its work
    tree elsewhere (`core.worktree`) says nothing of the files that the command finds around it.
    """
    if not any((parent / ".git").exists() for parent in (working_directory, *working_directory.parents)):
        return working_directory, _elsewhere(working_directory, environment)
    try:
        # Not .strip(): the name of a directory may end in white space.
        answer = git(working_directory, environment, "rev-parse", "--show-toplevel").removesuffix(b"\n")
        if not answer:
            return working_directory, ()
        root = Path(os.fsdecode(answer))
        if not is_work_tree(root) or not working_directory.resolve().is_relative_to(root):
            raise GitError(f"the repository says that its work tree is {root}")
    except GitError as error:
        reason = f"git could not be asked, so this was taken as a plain folder: {error}"
        return working_directory, (Gap(topic="code", subject=encode_path(working_directory), reason=storable(reason)),)
    return root, ()


def _elsewhere(directory: Path, environment: Mapping[str, str]) -> tuple[Gap, ...]:
    """Say that a repository which the environment names was not asked: its work tree may be any folder."""
    if not environment.get("GIT_DIR"):
        return ()
    reason = (
        "GIT_DIR names a repository elsewhere, which was not asked: this was taken as a plain folder, without commit"
    )
    return (Gap(topic="code", subject=encode_path(directory), reason=reason),)


def is_work_tree(root: Path) -> bool:
    """Say whether a root, as `find_root` returned it, is the top of a git work tree."""
    return (root / ".git").exists()


def list_git(root: Path, environment: Mapping[str, str]) -> Tree:
    """Return the tracked and the untracked files of a work tree and its submodules, ignored ones left out.

    Args:
        root: The top of the work tree, or a folder in it: then only what lies below, relative to it.
        environment: The user's.

    Raises:
        GitError: Git refused.
    """
    return _list_repository(root, environment, commit=None, depth=0)


def _list_repository(root: Path, environment: Mapping[str, str], *, commit: str | None, depth: int) -> Tree:
    with contextlib.ExitStack() as started:
        # At the same time: this is the part of a recording that delays the training.
        questions = (
            ("ls-files", "-z", "-s", "-t"),
            ("ls-files", "-z", "--others", "--exclude-standard"),
            ("rev-parse", "-q", "--verify", _HEAD),
        )
        tracked_by, others_by, head_by = (_asked(started, root, environment, question) for question in questions)
        index, others = _Index(finish_git(tracked_by)), _names(finish_git(others_by))
        with contextlib.suppress(GitError):  # no commit yet
            commit = commit or finish_git(head_by).decode("ascii").strip()
    head, links = _head(root, environment, commit) if commit else ({}, {})
    own = [name for name in others if not name.endswith(b"/")]
    tree = Tree(
        paths=tuple(dict.fromkeys((*index.files, *own, *(link for link in index.links if _is_link(root, link))))),
        untracked=frozenset(own) - index.files.keys(),
        sparse=frozenset(index.sparse),
        head=head,
        commit=commit,
        is_git=True,
    )
    nested = [link for link in index.links if _is_directory(root, link)]
    for name in dict.fromkeys((*nested, *(name for name in others if name.endswith(b"/")))):
        tree = _with_nested(tree, root, name, environment, commit=links.get(name.rstrip(b"/")), depth=depth)
    return tree


class _Index:
    """What `ls-files -z -s -t` lists: `TAG MODE ID STAGE<tab>PATH`; the tag is S where a sparse checkout looks away."""

    def __init__(self, output: bytes) -> None:
        self.files: dict[bytes, None] = {}
        self.links: dict[bytes, None] = {}
        self.sparse: list[bytes] = []
        for entry in _names(output):
            about, _, name = entry.partition(b"\t")
            if about[2:8] == _GITLINK:
                self.links[name] = None
                continue
            self.files[name] = None
            if about[:1] == b"S":
                self.sparse.append(name)


def list_head(root: Path, environment: Mapping[str, str], commit: str) -> dict[bytes, Blob]:
    """Return the files of a commit and of the submodules that it names, by path.

    Raises:
        GitError: Git refused.
    """
    blobs, links = _head(root, environment, commit)
    for name, inner_commit in links.items():
        with contextlib.suppress(GitError):  # said by `list_git` already
            inner = list_head(root / os.fsdecode(name), environment, inner_commit)
            blobs.update({name + b"/" + path: blob for path, blob in inner.items()})
    return blobs


def list_sparse(root: Path, environment: Mapping[str, str]) -> frozenset[bytes]:
    """Return the tracked files that a sparse checkout left out.

    Raises:
        GitError: Git refused.
    """
    return frozenset(_Index(git(root, environment, "ls-files", "-z", "-s", "-t")).sparse)


def _asked(
    started: contextlib.ExitStack, root: Path, environment: Mapping[str, str], question: tuple[str, ...]
) -> subprocess.Popen[bytes]:
    """Start git; it is waited for whatever becomes of the others."""
    process = start_git(root, environment, *question)
    started.callback(process.communicate)
    return process


def _names(output: bytes) -> list[bytes]:
    return [name for name in output.split(b"\0") if name]


def _mode(root: Path, name: bytes) -> int:
    try:
        return os.lstat(os.path.join(os.fsencode(root), name)).st_mode  # noqa: PTH118 - bytes
    except OSError:
        return 0


def _is_directory(root: Path, name: bytes) -> bool:
    return stat.S_ISDIR(_mode(root, name))


def _is_link(root: Path, name: bytes) -> bool:
    return stat.S_ISLNK(_mode(root, name))


def _head(root: Path, environment: Mapping[str, str], commit: str) -> tuple[dict[bytes, Blob], dict[bytes, str]]:
    """Read `ls-tree`, relative to the folder it is asked in: files by path, and the commits of submodules by path."""
    blobs: dict[bytes, Blob] = {}
    links: dict[bytes, str] = {}
    for entry in _names(git(root, environment, "ls-tree", "-r", "-z", commit)):
        about, _, name = entry.partition(b"\t")
        mode, kind, object_id = about.decode("ascii").split()
        if kind == "commit":
            links[name] = object_id
        else:
            blobs[name] = Blob(root, int(mode, 8), object_id)
    return blobs, links


def _with_nested(
    tree: Tree, root: Path, name: bytes, environment: Mapping[str, str], *, commit: str | None, depth: int
) -> Tree:
    """Add the files of a submodule, or of another repository inside this one."""
    prefix = name.rstrip(b"/") + b"/"
    directory = root / os.fsdecode(name)
    try:
        if depth >= _MAX_SUBMODULE_DEPTH:
            raise GitError("submodules are nested too deeply")
        if not (directory / ".git").exists():
            raise GitError("the submodule is not checked out")
        top = git(directory, environment, "rev-parse", "--show-toplevel").removesuffix(b"\n")
        if Path(os.fsdecode(top)) != directory.resolve():
            raise GitError(f"the repository says that its work tree is {os.fsdecode(top)}")
        inner = _list_repository(directory, environment, commit=commit, depth=depth + 1)
    except GitError as error:
        return _unlisted(tree, root, prefix, error)
    return replace(
        tree,
        paths=(*tree.paths, *(prefix + path for path in inner.paths)),
        untracked=tree.untracked | {prefix + path for path in inner.untracked},
        sparse=tree.sparse | {prefix + path for path in inner.sparse},
        head={**tree.head, **{prefix + path: blob for path, blob in inner.head.items()}},
        gaps=(*tree.gaps, *(replace(gap, subject=_below(prefix, gap.subject)) for gap in inner.gaps)),
    )


def _below(prefix: bytes, subject: str) -> str:
    return subject if subject.startswith("/") else encode_path(prefix) + subject


def _unlisted(tree: Tree, root: Path, prefix: bytes, error: GitError) -> Tree:
    """Take a nested repository that git does not list as a plain folder; an empty one is said to be missing."""
    plain = list_plain(root / os.fsdecode(prefix))
    what = "its files were taken as those of a plain folder" if plain.paths else "its files were not captured"
    gap = Gap(topic="code", subject=encode_path(prefix.rstrip(b"/")), reason=storable(f"{what}: {error}"))
    below = tuple(prefix + path for path in plain.paths)
    return replace(
        tree, paths=(*tree.paths, *below), untracked=tree.untracked | set(below), gaps=(*tree.gaps, gap, *plain.gaps)
    )


def list_plain(root: Path, *, store: Path | None = None) -> Tree:
    """Return the files of a plain folder, environments and caches left out, up to a limit that becomes a gap.

    Args:
        root: The folder.
        store: Where runs are kept; left out, too.
    """
    paths: list[bytes] = []
    gaps: list[Gap] = []
    for path in _walk(os.fsencode(root), b"", gaps, None if store is None else os.fsencode(store)):
        if len(paths) >= MAX_PLAIN_FILES:
            reason = (
                f"this folder is no git repository and has more than {MAX_PLAIN_FILES} files: the rest was left out"
            )
            gaps.append(Gap(topic="code", subject=encode_path(root), reason=reason))
            break
        paths.append(path)
    return Tree(paths=tuple(paths), untracked=frozenset(paths), gaps=tuple(gaps))


def without_store(tree: Tree, root: Path, store: Path) -> Tree:
    """Return a tree without what lies in the folder where runs are kept, unless git tracks it."""
    prefix = os.fsencode(os.path.relpath(store, root)) + b"/"
    ours = frozenset(path for path in tree.untracked if path.startswith(prefix))
    if not ours:
        return tree
    return replace(tree, paths=tuple(path for path in tree.paths if path not in ours), untracked=tree.untracked - ours)


def _walk(root: bytes, below: bytes, gaps: list[Gap], store: bytes | None) -> Iterator[bytes]:
    directory = os.path.join(root, below)  # noqa: PTH118 - bytes
    try:
        with os.scandir(directory) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        gaps.append(Gap(topic="code", subject=encode_path(below or root), reason=f"not readable: {error.strerror}"))
        return
    prefix = below + b"/" if below else b""
    folders = []
    for entry in entries:  # the files first: a folder of data must not use up the limit before the script is reached
        if entry.is_dir(follow_symlinks=False):
            folders.append(entry)
        elif entry.name != b".git":  # a linked work tree's or a submodule's pointer to its repository
            yield prefix + entry.name
    for entry in folders:
        if entry.path != store and not _is_skipped(entry):
            yield from _walk(root, prefix + entry.name, gaps, store)


def _is_skipped(entry: os.DirEntry[bytes]) -> bool:
    """Say whether a folder holds no code of the user's: caches, and virtual environments by their mark."""
    name = os.fsdecode(entry.name)
    marks = ("pyvenv.cfg", "conda-meta", "CACHEDIR.TAG")
    return (
        name in _SKIPPED
        or name.endswith("_cache")
        or any((Path(os.fsdecode(entry.path)) / mark).exists() for mark in marks)
    )
