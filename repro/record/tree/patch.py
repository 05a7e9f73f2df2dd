"""The readable diff: what the captured tree has that HEAD has not. For people; a replay uses the stored bytes."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from repro.errors import ReproError
from repro.evidence.canonical import encode_path, storable
from repro.evidence.model import CodeFile, Gap
from repro.record import redact
from repro.record.capture import Context
from repro.record.tree import askgit, worktree
from repro.record.tree.worktree import Blob

MAX_FILE_BYTES: Final = 512 * 1024
MAX_FILES: Final = 1000


def against_head(context: Context, commit: str | None) -> tuple[bytes, tuple[Gap, ...]]:
    """Return the difference between HEAD and the captured bytes as unified diff, UTF-8; empty where there is none."""
    try:
        head = worktree.list_head(context.root, context.environment, commit) if commit else {}
        captured = {file.path: file for file in context.findings.code_files}
        sparse = worktree.list_sparse(context.root, context.environment)
        known = {encode_path(path): blob for path, blob in head.items() if path not in sparse}
        gone = {path: blob for path, blob in known.items() if path not in captured}
        changed = [file for file in captured.values() if file.state != "committed"]
        old = old_bytes(context, [known[file.path] for file in changed if file.path in known] + list(gone.values()))
        pieces = [_changed(context, file, known.get(file.path), old) for file in changed[:MAX_FILES]]
        pieces += [_gone(path, blob, old) for path, blob in list(gone.items())[:MAX_FILES]]
    except (askgit.GitError, ReproError) as error:
        reason = storable(f"the readable diff could not be made: {error}")
        return b"", (Gap(topic="code", subject=encode_path(context.root), reason=reason),)
    return redact.tokens("".join(pieces)).encode("utf-8", "backslashreplace"), ()


def old_bytes(context: Context, blobs: list[Blob]) -> dict[str, bytes]:
    """Return the bytes of blobs by their names, those that git has."""
    by_repository: dict[Path, list[str]] = defaultdict(list)
    for blob in blobs:
        by_repository[blob.repository].append(blob.object_id)
    found: dict[str, bytes] = {}
    for repository, object_ids in by_repository.items():
        found.update(askgit.read_blobs(repository, context.environment, object_ids))
    return found


def _changed(context: Context, file: CodeFile, blob: Blob | None, old: dict[str, bytes]) -> str:
    before = None if blob is None else old.get(blob.object_id)
    if file.size_bytes > MAX_FILE_BYTES or (before is not None and len(before) > MAX_FILE_BYTES):
        return f"--- {file.path} differs: {file.size_bytes} bytes, {file.sha256} (too large to show)\n"
    after = context.objects.get(file.sha256)
    if before == after:
        return f"--- {file.path} has the bytes of HEAD, but mode or kind differ: now {file.kind} {file.mode:o}\n"
    return _unified(file.path, before, after)


def _gone(path: str, blob: Blob, old: dict[str, bytes]) -> str:
    before = old.get(blob.object_id)
    if before is None or len(before) > MAX_FILE_BYTES:
        return f"--- {path} is deleted\n"
    return _unified(path, before, None)


def _unified(path: str, before: bytes | None, after: bytes | None) -> str:
    old_lines, new_lines = _lines(before), _lines(after)
    if old_lines is None or new_lines is None:
        return f"--- {path} differs (binary): {len(before or b'')} bytes before, {len(after or b'')} bytes now\n"
    old_name = "/dev/null" if before is None else f"a/{path}"
    new_name = "/dev/null" if after is None else f"b/{path}"
    return "".join(_ended(difflib.unified_diff(old_lines, new_lines, old_name, new_name)))


def _lines(data: bytes | None) -> list[str] | None:
    """Return the lines of a text with their ends, or `None` for binary bytes."""
    if data is None:
        return []
    if b"\0" in data:
        return None
    return [line + "\n" for line in data.decode("utf-8", "backslashreplace").split("\n")] if data else []


def _ended(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        yield line if line.endswith("\n") else line + "\n"
