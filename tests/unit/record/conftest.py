"""Real repositories, real processes and real event logs for the tests of this room."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repro.evidence.objects import Objects
from repro.record.capture import Context

GIT_IDENTITY = {
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.org",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The variables of a user with an empty home."""
    home = tmp_path / "user-home"
    home.mkdir()
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", **GIT_IDENTITY}


@pytest.fixture
def git(environment: dict[str, str]) -> Callable[..., bytes]:
    """Run git in a directory: `git(directory, "add", "-A")`."""

    def run(directory: Path, *arguments: str | bytes) -> bytes:
        command = ["git", "-c", "init.defaultBranch=main", "-c", "protocol.file.allow=always", *arguments]
        done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    return run


@pytest.fixture
def repository(tmp_path: Path, git: Callable[..., bytes]) -> Path:
    """A repository with one commit of two files."""
    root = tmp_path / "project"
    root.mkdir()
    git(root, "init", "-q")
    (root / "train.py").write_text("print(1)\n")
    (root / "logo.bin").write_bytes(b"\0\1\2")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "first")
    return root


@pytest.fixture
def context(tmp_path: Path, environment: dict[str, str]) -> Callable[..., Context]:
    """Make a context of a directory, with an object store of its own."""

    def make(root: Path, **changes: Any) -> Context:
        known: dict[str, Any] = {
            "argv": ("python", "train.py"),
            "working_directory": root,
            "root": root,
            "environment": environment,
            "objects": Objects(tmp_path / "store" / "objects"),
            "cache": tmp_path / "store" / "cache",
            "home": tmp_path / "store",
        }
        return Context(**{**known, **changes})

    return make


@pytest.fixture
def write_log(tmp_path: Path) -> Callable[..., Path]:
    """Write an event log as the agent does: a start event, then others; return its folder."""

    def write(*events: dict[str, Any], key: str = "main", tail: bytes = b"", number: int = 1, **start: Any) -> Path:
        folder = tmp_path / "events"
        folder.mkdir(exist_ok=True)
        first = {
            "event": "start",
            "schema": 1,
            "process_key": key,
            "parent_key": None,
            "pid": 7,
            "ppid": 1,
            "argv": ["python", "train.py"],
            "executable": "/env/bin/python",
            "prefix": "/env",
            "base_prefix": "/usr",
            "python_version": "3.11.7",
            "implementation": "cpython",
            "build": "3.11.7 (main)",
            "path": ["/env/lib/python3.11/site-packages"],
            "rank": None,
            "world_size": None,
            "started_at": 1_700_000_000.5,
        }
        lines = b"".join(json.dumps(event).encode() + b"\n" for event in ({**first, **start}, *events))
        (folder / f"7-{number}.jsonl").write_bytes(lines + tail)
        return folder

    return write
