"""Where the sources of editable installs lie: read from what installers leave on the path of an interpreter.

The forms, none of which is executed: a `.pth` file with folders (PEP 660 by hatchling, flit, poetry, setuptools with a
`src` layout; `setup.py develop`'s `easy-install.pth`; conda develop), a `.pth` file that imports a finder whose module
holds a literal `MAPPING` from module to path (setuptools), `direct_url.json` with `dir_info.editable` (PEP 610), and
`.egg-link`.
"""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import repro
from repro.evidence.canonical import decode_path, encode_path
from repro.evidence.model import Gap
from repro.record.eventlog import Start

_MAX_BYTES: Final = 1024 * 1024
_FINDER: Final = re.compile(r"^import\s+(__editable__\w*_finder)\b")
_SYSTEM: Final = ("/usr", "/lib", "/lib64", "/bin", "/etc", "/proc", "/sys", "/dev")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """The source trees of editable installs. Absolute paths."""

    trees: tuple[Path, ...] = ()
    """The folders to keep; none lies below another."""
    paths: tuple[Path, ...] = ()
    """The folders that make their modules importable, in the order of the path."""
    gaps: tuple[Gap, ...] = ()


def find(interpreter: Start, working_directory: Path) -> Sources:
    """Return the source trees that an interpreter's editable installs point to."""
    paths: list[Path] = []
    projects: list[Path] = []
    gaps: list[Gap] = []
    for entry in dict.fromkeys(interpreter.path):
        folder = working_directory / os.fsdecode(decode_path(entry))
        for name in _names(folder):
            if name.endswith(".pth"):
                found, more = _of_pth(folder, _text(folder / name))
                paths += found
                gaps += more
            elif name.endswith(".egg-link"):
                paths += [folder / line for line in _text(folder / name).splitlines()[:1] if line]
            elif name.endswith(".dist-info"):
                projects += _of_direct_url(folder / name)
    ours = Path(repro.__file__).parent.parent
    prefixes = [Path(prefix) for prefix in (interpreter.prefix, interpreter.base_prefix)]
    usable = [path for path in _real(paths) if _is_source(path, prefixes) and path != ours]
    roots = [path for path in _real(projects) if _is_source(path, prefixes) and path != ours]
    return Sources(trees=_tops([*roots, *usable]), paths=tuple(usable or roots), gaps=tuple(gaps))


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError:  # a zip archive, or an entry that does not exist
        return []


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES).decode("utf-8", "surrogateescape")
    except OSError:
        return ""


def _of_pth(folder: Path, text: str) -> tuple[list[Path], list[Gap]]:
    """Read the lines as `site` does: a folder each, relative to the file's own; a line that imports is code."""
    found: list[Path] = []
    gaps: list[Gap] = []
    for line in text.splitlines():
        finder = _FINDER.match(line)
        if finder:
            for module, place in _mapping(folder / f"{finder[1]}.py"):
                if place.name in (module.rpartition(".")[2], f"{module.rpartition('.')[2]}.py"):
                    found.append(Path(*place.parts[: -module.count(".") - 1]))
                else:
                    reason = f"{module} is imported from a folder of another name: kept, but a replay cannot import it"
                    gaps.append(Gap(topic="code", subject=encode_path(place), reason=reason))
        elif line.strip() and not line.startswith(("#", "import ", "import\t")):
            found.append(folder / line.rstrip())
    return found, gaps


def _mapping(finder: Path) -> Iterator[tuple[str, Path]]:
    """Yield module and place from the literal `MAPPING` of a finder that setuptools wrote."""
    try:
        tree = ast.parse(_text(finder).encode("utf-8", "surrogateescape"))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in tree.body:
        target = (
            node.target
            if isinstance(node, ast.AnnAssign)
            else node.targets[0]
            if isinstance(node, ast.Assign)
            else None
        )
        if isinstance(target, ast.Name) and target.id == "MAPPING" and isinstance(node, ast.AnnAssign | ast.Assign):
            try:
                mapping = ast.literal_eval(node.value) if node.value else {}
            except ValueError:
                return
            if isinstance(mapping, dict):
                yield from ((str(module), Path(str(place))) for module, place in mapping.items())


def _of_direct_url(metadata: Path) -> list[Path]:
    try:
        found = json.loads(_text(metadata / "direct_url.json"))
        url = urlsplit(found["url"])
        editable = url.scheme == "file" and found.get("dir_info", {}).get("editable")
    except (ValueError, KeyError, TypeError, AttributeError):
        return []
    return [Path(unquote(url.path, errors="surrogateescape"))] if editable else []


def _real(paths: Iterable[Path]) -> list[Path]:
    """Return the folders among paths, each once; a module that is one file stands for its folder already."""
    found: dict[Path, None] = {}
    for path in paths:
        normal = Path(os.path.normpath(path))
        if normal.is_absolute() and normal.is_dir():
            found[normal] = None
    return list(found)


def _is_source(path: Path, prefixes: list[Path]) -> bool:
    """Say whether a folder on the path holds sources, and is no part of an environment or of the system."""
    inside = any(path.is_relative_to(prefix) for prefix in prefixes if prefix != Path("/"))
    installed = {"site-packages", "dist-packages"} & set(path.parts)
    system = any(path.is_relative_to(top) for top in _SYSTEM) and not path.is_relative_to("/usr/src")
    return not inside and not installed and not system and path != Path("/")


def _tops(folders: list[Path]) -> tuple[Path, ...]:
    return tuple(folder for folder in dict.fromkeys(folders) if not any(other in folder.parents for other in folders))
