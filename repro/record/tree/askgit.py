"""Asking git, and letting it do nothing else: no program of the repository's runs, no network, nothing is written.

A repository may be hostile: its configuration can name programs (hooks, `core.fsmonitor`, filters, transports) and can
hide files (`core.untrackedCache`, `core.ignoreCase`). So git runs with those switched off, is only asked for lists and
stored bytes, and never looks at the content of the work tree, which is what filters need.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from repro.record.redact import url

SAFE_OPTIONS: Final = (
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.sshCommand=false",
    "core.gitProxy=false",
    "core.askPass=false",
    "core.pager=cat",
    "core.untrackedCache=false",
    "core.ignoreCase=false",
    "core.precomposeUnicode=false",
    "submodule.recurse=false",
    "protocol.allow=never",
)
_TIMEOUT_SECONDS: Final = 60
# What `git rev-parse --local-env-vars` lists: a hook or a wrapper may have set them, for another repository.
_REDIRECTING: Final = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_SHALLOW_FILE",
    "GIT_GRAFT_FILE",
)
_PROGRAMS: Final = ("GIT_EXTERNAL_DIFF", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_PROXY_COMMAND", "GIT_ASKPASS", "GIT_PAGER")


class GitError(Exception):
    """Git is missing, or refused; the text is its last line."""


def safe_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which git opens the repository it stands in, reaches no network, writes nothing."""
    kept = {
        name: value
        for name, value in environment.items()
        if name not in _REDIRECTING and name not in _PROGRAMS and not name.startswith("GIT_TRACE")
    }
    return kept | {
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_DISABLE_UNTRACKED_CACHE": "1",
        "LC_ALL": "C",
    }


def _command(directory: Path, *arguments: str) -> list[str]:
    options = [word for option in SAFE_OPTIONS for word in ("-c", option)]
    return ["git", "--no-pager", *options, "-C", str(directory), *arguments]


def start_git(directory: Path, environment: Mapping[str, str], *arguments: str) -> subprocess.Popen[bytes]:
    """Start git in a directory.

    Raises:
        GitError: Git is not installed.
    """
    try:
        return subprocess.Popen(
            _command(directory, *arguments),
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
        output, complaint = process.communicate(timeout=_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise GitError(f"git did not answer within {_TIMEOUT_SECONDS} s") from None
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


def read_blobs(repository: Path, environment: Mapping[str, str], object_ids: Iterable[str]) -> dict[str, bytes]:
    """Return the bytes of stored objects; those that are missing are left out.

    Raises:
        GitError: Git refused.
    """
    wanted = list(dict.fromkeys(object_ids))
    try:
        answer = subprocess.run(
            _command(repository, "cat-file", "--batch"),
            env=safe_environment(environment),
            input="".join(f"{object_id}\n" for object_id in wanted).encode("ascii"),
            capture_output=True,
            timeout=_TIMEOUT_SECONDS,
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
