"""Code that a run used although it is not in the captured tree: files that git ignores, built modules, skipped folders.

Found by what the agent and the kernel saw opened or executed. A file that the run wrote before it read it is an output
of the run, which makes it again; one that changed after the run started is kept as it is now, and a gap says so.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from repro.evidence.canonical import decode_path, encode_path
from repro.evidence.model import CodeFile, Gap
from repro.record.capture import Context, Findings
from repro.record.tree.contents import NotKeptError, keep

MAX_BYTES: Final = 256 * 1024 * 1024
"""Of one file: built modules with CUDA kernels are large."""
SUFFIXES: Final = (
    *(".py", ".pyi", ".pyw", ".pyx", ".pxd", ".pyc", ".ipynb", ".so", ".pth"),
    *(".sh", ".bash", ".zsh", ".fish", ".pl", ".rb", ".lua", ".jl", ".r", ".R", ".js", ".mjs", ".ts"),
    *(".c", ".cc", ".cpp", ".cxx", ".h", ".hh", ".hpp", ".cu", ".cuh", ".ptx", ".cubin", ".metal", ".cl"),
)
_VERSIONED: Final = re.compile(r"\.so(\.\d+)+$")
"""Libraries that modules load by their versioned names, such as `libgfortran.so.5`: without them these do not load."""
_INSTALLED: Final = ("/site-packages/", "/dist-packages/", "/__pycache__/", "/.git/")


def find(context: Context) -> Findings:
    """Keep the code that the run used and that the captured tree has not."""
    places = _Places(context)
    order = _in_order(context)
    used = dict.fromkeys(path for path in _used(context, order, places) if places.wants(path))
    files: list[CodeFile] = []
    gaps: list[Gap] = []
    for path in used:
        if path in order.written:
            if path in order.read:
                gaps.append(_gap(places.name(path), "the run used this code and then wrote over it: it was not kept"))
            continue
        try:
            content = keep(context.objects, decode_path(path), MAX_BYTES)
        except FileNotFoundError:
            gaps.append(_gap(places.name(path), "the run used this code, and it is gone: its content is not known"))
            continue
        except NotKeptError as error:
            gaps.append(_gap(places.name(path), f"the run used this code, and it was not kept: {error}"))
            continue
        if content.mtime_ns >= context.started_at_ns:
            reason = (
                "the run used this code, and it was modified after the run started: what was kept is the later state"
            )
            gaps.append(_gap(places.name(path), reason))
        files.append(
            CodeFile(
                path=places.name(path),
                kind=content.kind,
                mode=content.mode,
                size_bytes=content.size_bytes,
                sha256=content.sha256,
                state="ignored",
            )
        )
    return Findings(code_files=tuple(files), gaps=tuple(gaps))


def _gap(subject: str, reason: str) -> Gap:
    return Gap(topic="code", subject=subject, reason=reason)


class _Places:
    """Which paths belong to the code of this run: those under its root, and under the editable installs' sources."""

    def __init__(self, context: Context) -> None:
        self._root = _folder(encode_path(context.root))
        listed = context.findings.fact("code", "source_paths")
        self._sources = tuple(_folder(path) for path in json.loads(listed)) if listed else ()
        self._known = {file.path for file in context.findings.code_files}
        starts = context.events.starts if context.events else []
        # An environment that lies in the tree is the lock's affair; one that holds the tree is not an environment.
        prefixes = {_folder(start.prefix) for start in starts} | {_folder(start.base_prefix) for start in starts}
        self._not_ours = (
            *(prefix for prefix in prefixes if not self._root.startswith(prefix)),
            *(() if self._root.startswith(home := _folder(encode_path(context.home))) else (home,)),
        )

    def name(self, path: str) -> str:
        return path[len(self._root) :] if path.startswith(self._root) else path

    def wants(self, path: str) -> bool:
        inside = path.startswith((self._root, *self._sources)) and not path.startswith(self._not_ours)
        return inside and not any(part in path for part in _INSTALLED) and self.name(path) not in self._known

    def is_near(self, path: str) -> bool:
        """Say whether a path lies under the root or a source tree, captured or not."""
        return path.startswith((self._root, *self._sources)) and not path.startswith(self._not_ours)


def _folder(path: str) -> str:
    return path.rstrip("/") + "/"


def _used(context: Context, order: _Order, places: _Places) -> Iterator[str]:
    """Yield the paths that were read as code, or executed."""
    read = [path for path in order.read if path.endswith(SUFFIXES) or _VERSIONED.search(path)]
    yield from read
    yield from _executed(context)
    yield from (shared.path for shared in context.findings.shared_objects)
    folders = dict.fromkeys(path.rpartition("/")[0] for path in read if path.endswith(".py") and places.is_near(path))
    yield from _built_modules(folders)


@dataclass(slots=True)
class _Order:
    """What the run read before it wrote it, and what of that it wrote later, in the order of time."""

    read: dict[str, None] = field(default_factory=dict)
    written: set[str] = field(default_factory=set)

    def take(self, event: Any) -> None:
        if hasattr(event, "target"):  # a rename
            self.written.add(event.target)
        elif event.mode == "write":
            self.written.add(event.path)
        elif event.size_bytes is not None and (path := _source(event.path)) not in self.written:
            self.read[path] = None


def _in_order(context: Context) -> _Order:
    order = _Order()
    layers = [layer for layer in (context.events, context.kernel) if layer is not None]
    for event in sorted((e for layer in layers for e in (*layer.opens, *layer.renames)), key=lambda event: event.at):
        order.take(event)
    return order


def _source(path: str) -> str:
    """Name the source of cached byte code: which of the two Python reads depends on who ran it before."""
    folder, cached, name = path.partition("/__pycache__/")
    return f"{folder}/{name.partition('.')[0]}.py" if cached and name.endswith(".pyc") else path


def _executed(context: Context) -> Iterator[str]:
    """Yield programs and scripts that were started: the command itself, and what processes started."""
    commands = [context.argv]
    if context.events is not None:
        commands += [(spawn.executable, *spawn.argv) for spawn in context.events.spawns]
    for words in commands:
        for place, word in enumerate(words):
            if place == 0 or word.endswith(SUFFIXES):
                yield from _file(context.working_directory, word)
    for execution in context.kernel.executions if context.kernel else ():
        yield str(execution.path)


def _file(folder: Path, word: str) -> Iterator[str]:
    if "/" not in word and not word.endswith(SUFFIXES):
        return
    path = Path(os.path.normpath(folder / word))
    if "\0" not in word and path.is_file():
        yield encode_path(path)


def _built_modules(folders: Iterable[str]) -> Iterator[str]:
    """Yield the extension modules beside imported sources: only the kernel sees them loaded, where it is asked."""
    for folder in folders:
        try:
            with os.scandir(decode_path(folder)) as entries:
                names = sorted(entry.name for entry in entries if entry.name.endswith(b".so"))
        except OSError:
            continue
        yield from (f"{folder}/{encode_path(name)}" for name in names)
