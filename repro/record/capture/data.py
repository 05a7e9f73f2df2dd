"""The files that the run read and wrote, by SHA-256, as the agent saw them opened.

An input is a file that was read before the run itself wrote it; an output was written and is there at the end.
"""

from __future__ import annotations

import importlib.util
import os
import stat
import tempfile
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from repro.errors import InconclusiveError
from repro.evidence import canonical
from repro.evidence.canonical import decode_path, encode_path
from repro.evidence.model import DataFile, Gap
from repro.record.capture import Context, Findings, observed
from repro.record.eventlog import Events, Open, Rename, Start

_Category = Literal["data", "code", "environment", "system", "temporary"]
_SYSTEM: Final = ("/proc", "/sys", "/dev", "/etc", "/usr", "/lib", "/lib64", "/bin", "/sbin", "/var/lib", "/run")
_NEVER_HASHED: Final = ("/proc/", "/sys/", "/dev/")
_CODE_SUFFIXES: Final = (".py", ".pyi", ".pyc", ".ipynb", ".sh")
_MAX_STORED_CODE_BYTES: Final = 10 * 1024 * 1024
_SAY_AFTER_SECONDS: Final = 1.0


@dataclass(slots=True)
class _Seen:
    """What the run did to files, in the order of time."""

    inputs: dict[str, Open] = field(default_factory=dict)
    outputs: dict[str, Open] = field(default_factory=dict)

    def take(self, event: Open | Rename) -> None:
        if isinstance(event, Rename):
            self._rename(event)
        elif event.mode == "write":
            self.outputs.setdefault(event.path, event)
        elif event.path not in self.outputs:
            self.inputs.setdefault(event.path, event)

    def _rename(self, event: Rename) -> None:
        """Follow a file, or all files of a folder, to the new name."""
        for path in [path for path in self.outputs if path == event.source or path.startswith(event.source + "/")]:
            target = event.target + path[len(event.source) :]
            self.outputs[target] = replace(self.outputs.pop(path), path=target)


def after(context: Context) -> Findings:
    """Hash what was read and what was written."""
    if context.events is None:
        return Findings()
    seen = _follow(context.events)
    hasher = _Hasher(context)
    rows: list[DataFile] = []
    for role, opened in (("input", seen.inputs), ("output", seen.outputs)):
        for event in opened.values():
            rows += hasher.row(event, "input" if role == "input" else "output")
    unique = {(row.path, row.role): row for row in reversed(rows)}
    files = tuple(sorted(unique.values(), key=lambda row: (row.path, row.role)))
    listed = sorted([row.path, row.sha256] for row in files if row.role == "input" and row.category == "data")
    digest = observed("data", "inputs_digest", canonical.digest(canonical.dumps(listed)))
    return Findings(facts=(digest,), gaps=tuple(hasher.gaps), data_files=files)


def _follow(events: Events) -> _Seen:
    seen = _Seen()
    timed: list[Open | Rename] = [*events.opens, *events.renames]
    for event in sorted(timed, key=lambda event: event.at):
        seen.take(event)
    return seen


class _Hasher:
    """Makes the rows of files that were opened."""

    def __init__(self, context: Context) -> None:
        self.gaps: list[Gap] = []
        self._context = context
        self._root = encode_path(context.root).rstrip("/") + "/"
        self._home = encode_path(context.home).rstrip("/") + "/"
        self._packages = _environment_prefixes(context.interpreter)
        self._temporary = tuple(
            encode_path(Path(path).absolute()).rstrip("/") + "/"
            for path in {tempfile.gettempdir(), context.environment.get("TMPDIR") or "/tmp"}  # noqa: S108 - only compared
        )
        self._tree = {file.path: file for file in context.findings.code_files if file.kind == "file"}
        self._said_at = time.monotonic()

    def row(self, event: Open, role: Literal["input", "output"]) -> list[DataFile]:
        """Return the row of a file, or none for what does not belong to the run."""
        if role == "output" and event.path.endswith(".pyc"):
            return []
        event = _source(event)
        path = event.path
        if path.startswith(self._home) and not path.startswith((self._root, *self._packages)):
            return []  # our own files, but for the environments that replays run in
        about = _stat(path)
        if about is None and role == "output":
            return []
        category = self._category(path, gone=about is None)
        sha256, size_bytes, changed = self._content(event, role, category, about)
        row = DataFile(
            path=self._relative(path),
            role=role,
            category=category,
            size_bytes=size_bytes,
            sha256=sha256,
            modified_at=None if about is None else _utc(about.st_mtime_ns),
            process_key=event.process_key,
            library=event.library,
            changed_during_run=changed,
        )
        return [row]

    def _relative(self, path: str) -> str:
        return path[len(self._root) :] if path.startswith(self._root) else path

    def _category(self, path: str, *, gone: bool) -> _Category:
        if path.startswith(self._packages) or "/site-packages/" in path or "/dist-packages/" in path:
            return "environment"
        if gone and path.startswith(self._temporary):
            return "temporary"
        if path.startswith(self._root):
            return "code" if path.endswith(_CODE_SUFFIXES) else "data"
        if any(path == prefix or path.startswith(prefix + "/") for prefix in _SYSTEM):
            return "system"
        return "code" if path.endswith(_CODE_SUFFIXES) else "data"

    def _content(
        self, event: Open, role: str, category: _Category, about: os.stat_result | None
    ) -> tuple[str | None, int | None, bool]:
        """Return digest, size, and whether the bytes that were read may be others than those that were hashed."""
        captured = self._tree.get(self._relative(event.path))
        if role == "input" and captured is not None and self._is_captured(event, captured.size_bytes):
            return captured.sha256, captured.size_bytes, False
        if about is None:
            if category != "temporary":
                self._gap(event.path, "it was read, and is gone: its content is not known")
            return None, event.size_bytes, False
        if not stat.S_ISREG(about.st_mode) or event.path.startswith(_NEVER_HASHED):
            return None, None, False
        sha256 = self._hash(event.path, category, about)
        changed = role == "input" and _differs(event, about)
        if changed:
            self._gap(event.path, "it changed after it was first read: its digest is that of the end of the run")
        return sha256, about.st_size, changed

    def _is_captured(self, event: Open, size_bytes: int) -> bool:
        """Say whether a file of the code tree was read as it was captured."""
        unchanged = event.mtime_ns is not None and event.mtime_ns < self._context.started_at_ns
        return unchanged and event.size_bytes == size_bytes

    def _hash(self, path: str, category: _Category, about: os.stat_result) -> str | None:
        self._say(path)
        real = Path(os.fsdecode(decode_path(path)))
        try:
            if (
                category == "code"
                and about.st_size <= _MAX_STORED_CODE_BYTES
                and self._relative(path) not in self._tree
            ):
                return self._context.objects.put_file(real)[0]
            return canonical.digest_file(real)[0]
        except (OSError, InconclusiveError) as error:
            self._gap(path, f"it could not be hashed: {getattr(error, 'strerror', None) or error}")
            return None

    def _say(self, path: str) -> None:
        if time.monotonic() - self._said_at > _SAY_AFTER_SECONDS:
            self._said_at = time.monotonic()
            self._context.progress(f"hashing data files … {path.rpartition('/')[2]}")

    def _gap(self, path: str, reason: str) -> None:
        self.gaps.append(Gap(topic="data", subject=self._relative(path), reason=reason))


def _source(event: Open) -> Open:
    """Name the source where its cached byte code was read, since that is what the run is made of."""
    if not event.path.endswith(".pyc"):
        return event
    try:
        source = importlib.util.source_from_cache(os.fsdecode(decode_path(event.path)))
        about = Path(source).stat()
    except (ValueError, NotImplementedError, OSError):
        return event
    return replace(
        event, path=encode_path(source), size_bytes=about.st_size, mtime_ns=about.st_mtime_ns, inode=about.st_ino
    )


def _environment_prefixes(interpreter: Start | None) -> tuple[str, ...]:
    """Return the folders that belong to the recorded Python: its own, its packages, its standard library."""
    if interpreter is None:
        return ()
    minor = ".".join(interpreter.python_version.split(".")[:2])
    shared = ("/", "/usr", "/usr/local", "")
    own = {prefix for prefix in (interpreter.prefix, interpreter.base_prefix) if prefix not in shared}
    libraries = {f"{interpreter.base_prefix.rstrip('/')}/{lib}/python{minor}" for lib in ("lib", "lib64")}
    return tuple(path.rstrip("/") + "/" for path in own | libraries)


def _stat(path: str) -> os.stat_result | None:
    try:
        about = os.stat(decode_path(path))  # noqa: PTH116 - bytes
    except (OSError, ValueError):
        return None
    return None if stat.S_ISDIR(about.st_mode) else about


def _differs(event: Open, about: os.stat_result) -> bool:
    """Compare a file with what it was when it was opened, as far as that is known."""
    pairs = ((event.size_bytes, about.st_size), (event.mtime_ns, about.st_mtime_ns), (event.inode, about.st_ino))
    return any(then is not None and then != now for then, now in pairs)


def _utc(time_ns: int) -> str:
    moment = datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).replace(microsecond=time_ns // 1000 % 1_000_000)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
