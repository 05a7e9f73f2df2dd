"""Which files are the code tree: asked of git, or walked in a plain folder.

A repository may be hostile: its configuration can name programs (hooks, `core.fsmonitor`, filters, transports). So git
runs with those switched off, is only asked for lists and stored bytes, and the bytes of the tree are read and hashed by
ourselves, never through the index, which can be told to look away (`assume-unchanged`).
"""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from repro.evidence.canonical import encode_path, storable
from repro.evidence.model import Gap
from repro.record.redact import url

MAX_PLAIN_FILES: Final = 20_000
_SKIPPED: Final = {".git", ".hg", ".svn", "__pycache__", "node_modules", ".tox", ".nox", ".eggs", ".ipynb_checkpoints"}
_GIT_TIMEOUT_SECONDS: Final = 60
_MAX_SUBMODULE_DEPTH: Final = 10
_HEAD: Final = "HEAD^{commit}"
SAFE_OPTIONS: Final = (
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.sshCommand=false",
    "protocol.allow=never",
    "core.pager=cat",
)
_REDIRECTING: Final = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
)
_PROGRAMS: Final = ("GIT_EXTERNAL_DIFF", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_PROXY_COMMAND", "GIT_ASKPASS", "GIT_TRACE")


class GitError(Exception):
    """Git is missing, or refused; the text is its last line."""


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
    head: Mapping[bytes, Blob] = field(default_factory=dict)
    commit: str | None = None
    is_git: bool = False
    gaps: tuple[Gap, ...] = ()


def safe_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which git opens the repository it stands in, reaches no network, writes nothing."""
    kept = {name: value for name, value in environment.items() if name not in _REDIRECTING and name not in _PROGRAMS}
    return kept | {
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "LC_ALL": "C",
    }


def start_git(directory: Path, environment: Mapping[str, str], *arguments: str) -> subprocess.Popen[bytes]:
    """Start git in a directory.

    Raises:
        GitError: Git is not installed.
    """
    options = [word for option in SAFE_OPTIONS for word in ("-c", option)]
    try:
        return subprocess.Popen(
            ["git", "--no-pager", *options, "-C", str(directory), *arguments],
            env=safe_environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
        )
    except OSError as error:
        raise GitError(f"git could not be started: {error.strerror}") from error


def finish_git(process: subprocess.Popen[bytes]) -> bytes:
    """Return what git printed.

    Raises:
        GitError: It failed, or took longer than a minute.
    """
    try:
        output, complaint = process.communicate(timeout=_GIT_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise GitError(f"git did not answer within {_GIT_TIMEOUT_SECONDS} s") from None
    if process.returncode != 0:
        lines = complaint.decode("utf-8", "replace").strip().splitlines()
        reason = next((line for line in lines if line.startswith("fatal:")), lines[-1] if lines else "")
        raise GitError(url(reason.removeprefix("fatal: ")) or f"git exited with {process.returncode}")
    return output


def git(directory: Path, environment: Mapping[str, str], *arguments: str) -> bytes:
    """Run git in a directory and return what it printed.

    Raises:
        GitError: It is missing, failed, or took longer than a minute.
    """
    return finish_git(start_git(directory, environment, *arguments))


def find_root(working_directory: Path, environment: Mapping[str, str]) -> tuple[Path, tuple[Gap, ...]]:
    """Return the root of the code tree: the git work tree, else the working directory; with a gap where git refused."""
    if not any((parent / ".git").exists() for parent in (working_directory, *working_directory.parents)):
        return working_directory, ()
    try:
        # Not .strip(): the name of a directory may end in white space.
        answer = git(working_directory, environment, "rev-parse", "--show-toplevel").removesuffix(b"\n")
    except GitError as error:
        reason = f"git could not be asked, so this was taken as a plain folder: {error}"
        return working_directory, (Gap(topic="code", subject=encode_path(working_directory), reason=storable(reason)),)
    return (Path(os.fsdecode(answer)), ()) if answer else (working_directory, ())


def is_work_tree(root: Path) -> bool:
    """Say whether a root, as `find_root` returned it, is the top of a git work tree."""
    return (root / ".git").exists()


def list_git(root: Path, environment: Mapping[str, str]) -> Tree:
    """Return the tracked and the untracked files of a work tree and its submodules, ignored ones left out.

    Raises:
        GitError: Git refused.
    """
    return _list_repository(root, environment, commit=None, depth=0)


def _list_repository(root: Path, environment: Mapping[str, str], *, commit: str | None, depth: int) -> Tree:
    with contextlib.ExitStack() as started:
        # At the same time: this is the part of a recording that delays the training.
        questions = (
            ("ls-files", "-z"),
            ("ls-files", "-z", "--others", "--exclude-standard"),
            ("rev-parse", "-q", "--verify", _HEAD),
        )
        tracked_by, others_by, head_by = (_asked(started, root, environment, question) for question in questions)
        tracked, others = _names(finish_git(tracked_by)), _names(finish_git(others_by))
        with contextlib.suppress(GitError):  # no commit yet
            commit = commit or finish_git(head_by).decode("ascii").strip()
    head, links = (
        _entries(root, git(root, environment, "ls-tree", "-r", "-z", "--full-tree", commit)) if commit else ({}, {})
    )
    names = tuple(dict.fromkeys((*tracked, *others)))
    nested = [name for name in names if _is_directory(root, name)]
    tree = Tree(
        paths=tuple(name for name in names if name not in set(nested)),
        untracked=frozenset(others) - set(tracked),
        head=head,
        commit=commit,
        is_git=True,
    )
    for name in nested:
        tree = _with_nested(tree, root, name, environment, commit=links.get(name.rstrip(b"/")), depth=depth)
    return tree


def list_head(root: Path, environment: Mapping[str, str], commit: str) -> dict[bytes, Blob]:
    """Return the files of a commit and of the submodules that it names, by path.

    Raises:
        GitError: Git refused.
    """
    blobs, links = _entries(root, git(root, environment, "ls-tree", "-r", "-z", "--full-tree", commit))
    for name, inner_commit in links.items():
        with contextlib.suppress(GitError):  # said by `list_git` already
            inner = list_head(root / os.fsdecode(name), environment, inner_commit)
            blobs.update({name + b"/" + path: blob for path, blob in inner.items()})
    return blobs


def _asked(
    started: contextlib.ExitStack, root: Path, environment: Mapping[str, str], question: tuple[str, ...]
) -> subprocess.Popen[bytes]:
    """Start git; it is waited for whatever becomes of the others."""
    process = start_git(root, environment, *question)
    started.callback(process.communicate)
    return process


def _names(output: bytes) -> list[bytes]:
    return [name for name in output.split(b"\0") if name]


def _is_directory(root: Path, name: bytes) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(os.path.join(os.fsencode(root), name)).st_mode)  # noqa: PTH118 - bytes
    except OSError:
        return False


def _entries(root: Path, output: bytes) -> tuple[dict[bytes, Blob], dict[bytes, str]]:
    """Read `ls-tree`: files by path, and the commits of submodules by path."""
    blobs: dict[bytes, Blob] = {}
    links: dict[bytes, str] = {}
    for entry in _names(output):
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
        inner = _list_repository(directory, environment, commit=commit, depth=depth + 1)
    except GitError as error:
        gap = Gap(topic="code", subject=encode_path(name), reason=storable(f"its files were not captured: {error}"))
        return Tree(
            paths=tree.paths,
            untracked=tree.untracked,
            head=tree.head,
            commit=tree.commit,
            is_git=True,
            gaps=(*tree.gaps, gap),
        )
    return Tree(
        paths=(*tree.paths, *(prefix + path for path in inner.paths)),
        untracked=tree.untracked | {prefix + path for path in inner.untracked},
        head={**tree.head, **{prefix + path: blob for path, blob in inner.head.items()}},
        commit=tree.commit,
        is_git=True,
        gaps=(*tree.gaps, *inner.gaps),
    )


def list_plain(root: Path) -> Tree:
    """Return the files of a plain folder, environments and caches left out, up to a limit that becomes a gap."""
    paths: list[bytes] = []
    gaps: list[Gap] = []
    for path in _walk(os.fsencode(root), b"", gaps):
        if len(paths) >= MAX_PLAIN_FILES:
            reason = (
                f"this folder is no git repository and has more than {MAX_PLAIN_FILES} files: the rest was left out"
            )
            gaps.append(Gap(topic="code", subject=encode_path(root), reason=reason))
            break
        paths.append(path)
    return Tree(paths=tuple(paths), untracked=frozenset(paths), gaps=tuple(gaps))


def _walk(root: bytes, below: bytes, gaps: list[Gap]) -> Iterator[bytes]:
    directory = os.path.join(root, below)  # noqa: PTH118 - bytes
    try:
        with os.scandir(directory) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        gaps.append(Gap(topic="code", subject=encode_path(below or root), reason=f"not readable: {error.strerror}"))
        return
    for entry in entries:
        path = below + b"/" + entry.name if below else entry.name
        if not entry.is_dir(follow_symlinks=False):
            yield path
        elif not _is_skipped(entry):
            yield from _walk(root, path, gaps)


def _is_skipped(entry: os.DirEntry[bytes]) -> bool:
    """Say whether a folder holds no code of the user's: caches, and virtual environments by their mark."""
    name = os.fsdecode(entry.name)
    marks = ("pyvenv.cfg", "conda-meta", "CACHEDIR.TAG")
    return (
        name in _SKIPPED
        or name.endswith("_cache")
        or any((Path(os.fsdecode(entry.path)) / mark).exists() for mark in marks)
    )


def read_blobs(repository: Path, environment: Mapping[str, str], object_ids: Iterable[str]) -> dict[str, bytes]:
    """Return the bytes of stored objects; those that are missing are left out.

    Raises:
        GitError: Git refused.
    """
    wanted = list(dict.fromkeys(object_ids))
    options = [word for option in SAFE_OPTIONS for word in ("-c", option)]
    try:
        answer = subprocess.run(
            ["git", "--no-pager", *options, "-C", str(repository), "cat-file", "--batch"],
            env=safe_environment(environment),
            input="".join(f"{object_id}\n" for object_id in wanted).encode("ascii"),
            capture_output=True,
            timeout=_GIT_TIMEOUT_SECONDS,
            process_group=0,
            check=False,
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise GitError(f"git could not be asked for what HEAD holds: {error}") from error
    return _batch(answer)


def _batch(answer: bytes) -> dict[str, bytes]:
    """Read `cat-file --batch`: `ID TYPE SIZE`, a newline, the bytes, a newline."""
    blobs: dict[str, bytes] = {}
    position = 0
    while (end := answer.find(b"\n", position)) >= 0:
        words = answer[position:end].split(b" ")
        position = end + 1
        if len(words) == 3:
            size = int(words[2])
            blobs[words[0].decode("ascii")] = answer[position : position + size]
            position += size + 1
    return blobs
