"""The scratch directory of a replay: the recorded code tree, its data, and nothing of what the run wrote.

The directory mirrors recorded absolute paths: what lay in `/home/me/project` is restored in
`<scratch>/home/me/project`. So the tree keeps its name, and a relative path out of the tree (`../data`, a link, a path
made from `__file__`) stays in the scratch directory, where inputs from outside the tree are found as links.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from repro.errors import AlteredError, ExecutionError, InconclusiveError
from repro.evidence import canonical
from repro.evidence.model import CodeFile
from repro.evidence.objects import Objects
from repro.replay.data import Input
from repro.replay.plan import Plan
from repro.replay.relocation import Move

_FREE_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """A scratch directory with a plan's tree in it."""

    path: Path
    """Holds all of it; removed after the replay."""
    scratch: Path
    """Stands for `/` of the recorded paths."""
    root: Path
    working_directory: Path
    entropy: Path
    """The document for the agent, 0600, outside the tree."""
    moves: tuple[Move, ...]
    """The recorded prefixes that lie in the scratch directory now."""
    mirrors: tuple[Move, ...]
    """Where else the scratch directory stands for recorded paths: to read the replay's record, not for its command."""

    def code_paths(self, plan: Plan) -> tuple[str, ...]:
        """Return where a plan's code files are now, encoded: relative to the root, or absolute for those outside it."""
        scratch = canonical.encode_path(self.scratch)
        return tuple(scratch + file.path if file.path.startswith("/") else file.path for file in plan.code_files)

    def source_paths(self, plan: Plan) -> tuple[str, ...]:
        """Return the directories that stand in for a plan's editable installs: first on the path, they come first."""
        names = (os.fsdecode(canonical.decode_path(path)) for path in plan.source_paths)
        return tuple(os.path.normpath(self.root / name) for name in names)

    def remove(self) -> None:
        """Remove the scratch directory, also where the command left directories that cannot be written to."""
        shutil.rmtree(self.path, onerror=_insist)


def build(plan: Plan, objects: Objects, *, progress: Callable[[str], None]) -> Workspace:
    """Make a scratch directory and restore a plan's tree and inputs in it.

    Raises:
        AlteredError: The record holds a path that would leave the scratch directory, or an object is altered.
        InconclusiveError: The bytes of a file are missing.
        ExecutionError: The disk is full, or cannot be written to.
    """
    try:
        path = Path(tempfile.mkdtemp(prefix="repro-replay-")).resolve()
    except OSError as error:
        raise _cannot_write(error) from error
    try:
        workspace = _layout(path, plan)
        progress(f"restoring {len(plan.code_files)} code files in {workspace.root}")
        _refuse_full_disk(plan, path)
        restore_all(plan.code_files, objects, workspace.root, workspace.scratch)
        _make_directories(plan, workspace)
        for item in plan.inputs:
            _provide(item, plan, workspace, objects)
        _write_private(workspace.entropy, plan.entropy)
    except BaseException as error:
        shutil.rmtree(path, onerror=_insist)
        if isinstance(error, OSError):
            raise _cannot_write(error) from error
        raise
    return workspace


def restore_all(code_files: tuple[CodeFile, ...], objects: Objects, root: Path, outside: Path) -> None:
    """Write the code tree, and below another directory, at their absolute paths, the source trees outside it.

    Raises: as `restore`.
    """
    restore(tuple(file for file in code_files if not file.path.startswith("/")), objects, root)
    away = tuple(replace(file, path=file.path[1:]) for file in code_files if file.path.startswith("/"))
    if away:
        restore(away, objects, outside)


def restore(code_files: tuple[CodeFile, ...], objects: Objects, root: Path) -> None:
    """Write a code tree: contents, modes, symbolic links.

    Links come last, so that no file is written through one; a file and a link in each other's way are an alteration.

    Raises:
        AlteredError: A path is absolute, climbs, or lies beneath a file or link; or an object is altered.
        InconclusiveError: The bytes of a file are missing.
    """
    root.mkdir(parents=True, exist_ok=True)
    root = root.resolve()
    for file in sorted(code_files, key=lambda file: (file.kind == "symlink", file.path)):
        target = _inside(root, file.path)
        content = objects.get(file.sha256)
        try:
            if os.path.realpath(target.parent) != os.fspath(target.parent):
                raise AlteredError(f"the recorded tree holds {file.path!r}, which lies beneath a symbolic link")
            target.parent.mkdir(parents=True, exist_ok=True)
            if file.kind == "symlink":
                target.symlink_to(os.fsdecode(content))
            else:
                _write(target, content, file.mode)
        except (FileExistsError, NotADirectoryError) as error:
            raise AlteredError(f"the recorded tree holds {file.path!r} in the way of another of its files") from error


def _write(target: Path, content: bytes, mode: int) -> None:
    with target.open("xb") as file:
        file.write(content)
        os.fchmod(file.fileno(), mode & 0o777)


def _inside(root: Path, encoded: str) -> Path:
    """Return where a recorded relative path belongs, refusing any that does not stay under the root."""
    raw = canonical.decode_path(encoded)
    parts = raw.split(b"/")
    if b"\0" in raw or any(part in (b"", b".", b"..") for part in parts):
        raise AlteredError(f"the recorded tree holds the path {encoded!r}, which does not stay inside it")
    return root / os.fsdecode(raw)


def _layout(path: Path, plan: Plan) -> Workspace:
    scratch = path / "scratch"
    recorded_root = os.fsdecode(canonical.decode_path(plan.root))
    root = _mirror(scratch, recorded_root)
    moved = [recorded_root, *(os.fsdecode(canonical.decode_path(item)) for item in (*_sources(plan), *plan.diverted))]
    return Workspace(
        path=path,
        scratch=scratch,
        root=root,
        working_directory=_mirror(
            scratch, f"{recorded_root}/{os.fsdecode(canonical.decode_path(plan.working_directory))}"
        ),
        entropy=path / "entropy.json",
        moves=tuple(Move(recorded=item, here=os.fspath(_mirror(scratch, item))) for item in moved if item != "/"),
        mirrors=_mirrors(scratch, plan),
    )


def _sources(plan: Plan) -> tuple[str, ...]:
    """Return the absolute directories, encoded, of editable installs' sources outside the root."""
    climbing = (path for path in plan.source_paths if path.startswith("../") or path == "..")
    found = (os.path.normpath(f"{plan.root}/{path}") for path in climbing)
    return tuple(path for path in found if not f"{plan.root}/".startswith(f"{path.rstrip('/')}/"))


def _mirrors(scratch: Path, plan: Plan) -> tuple[Move, ...]:
    """Return one prefix for each directory of `/` that holds something of the run outside its root."""
    named = [*(item.path for item in plan.inputs), *(file.path for file in plan.code_files), *plan.directories]
    outside = [path for path in named if path.startswith("/")]
    tops = {os.fsdecode(canonical.decode_path(path)).split("/")[1] for path in outside}
    return tuple(Move(recorded=f"/{top}", here=f"{scratch}/{top}") for top in sorted(tops) if top)


def _mirror(scratch: Path, absolute: str) -> Path:
    """Return where a recorded absolute path lies in the scratch directory."""
    if not absolute.startswith("/"):
        raise AlteredError(f"the record holds {absolute!r} where an absolute path belongs")
    return scratch / os.path.normpath(absolute).lstrip("/")


def _make_directories(plan: Plan, workspace: Workspace) -> None:
    for encoded in plan.directories:
        directory = _mirror(workspace.scratch, os.fsdecode(canonical.decode_path(encoded)))
        if _stays(directory, workspace):
            # A file of the tree may bear that name: then the run made a directory of it, and does so again.
            with contextlib.suppress(FileExistsError, NotADirectoryError):
                directory.mkdir(parents=True, exist_ok=True)
    workspace.working_directory.mkdir(parents=True, exist_ok=True)


def _provide(item: Input, plan: Plan, workspace: Workspace, objects: Objects) -> None:
    """Put an input where the command will look for it, unless it is there already."""
    if item.source == "tree":
        return
    name = os.fsdecode(canonical.decode_path(item.path))
    recorded = Path(os.fsdecode(canonical.decode_path(plan.root))) / name
    # Where a link of the tree leads, in the scratch directory or out of it, is where the bytes belong.
    target = Path(os.path.realpath(_mirror(workspace.scratch, os.fspath(recorded))))
    if not _stays(target, workspace):
        if not target.exists():
            raise InconclusiveError(
                f"{item.path} is reached through a link of the tree to {target}, which is not there"
            )
        return
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if item.source == "object" and item.sha256 is not None:
        _write(target, objects.get(item.sha256), 0o644)
    elif item.path.startswith("/"):
        target.symlink_to(recorded)
    else:
        _copy(recorded, target)


def _stays(path: Path, workspace: Workspace) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(workspace.scratch)


def _copy(source: Path, target: Path) -> None:
    """Copy a file, sharing its blocks where the file system can, and make the copy read-only."""
    with source.open("rb") as reader, target.open("xb") as writer:
        try:
            while os.copy_file_range(reader.fileno(), writer.fileno(), 1 << 30):
                pass
        except OSError:  # another file system, or a kernel without it
            reader.seek(0)
            writer.seek(0)
            writer.truncate()
            shutil.copyfileobj(reader, writer, 1 << 20)
        os.fchmod(writer.fileno(), 0o444)


def _refuse_full_disk(plan: Plan, path: Path) -> None:
    needed = sum(file.size_bytes for file in plan.code_files)
    needed += sum(item.size_bytes for item in plan.inputs if item.source != "tree" and not item.path.startswith("/"))
    free = shutil.disk_usage(path).free
    if needed + _FREE_BYTES > free:
        raise ExecutionError(
            f"the replay needs {needed / 1e6:.0f} MB in {path.parent}, and {free / 1e6:.0f} MB are free",
            hint="set TMPDIR to a directory on a larger disk",
        )


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def _cannot_write(error: OSError) -> ExecutionError:
    place = error.filename or tempfile.gettempdir()
    return ExecutionError(
        f"cannot build the replay's directory: {place}: {error.strerror}",
        hint="set TMPDIR to a directory that can be written to",
    )


def _insist(function: Callable[[str], object], path: str, error: object) -> None:
    """Make the directory writable and try once more; what still cannot be removed is left."""
    target = Path(path)
    with contextlib.suppress(OSError):
        target.parent.chmod(0o700)
        if target.is_dir() and not target.is_symlink():
            target.chmod(0o700)
            shutil.rmtree(target, ignore_errors=True)
        else:
            target.unlink()
