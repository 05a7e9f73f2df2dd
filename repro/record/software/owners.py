"""To which distribution or system package a file belongs.

Asked are, in this order: the RECORD files of the Python distributions beside it, `conda-meta` of a conda environment,
the lists of dpkg and apk, and rpm's own program.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from repro.evidence.canonical import storable

_SITE: Final = re.compile(rb"^(.*/(?:site|dist)-packages)/(.+)$", re.DOTALL)
_DIST_INFO: Final = re.compile(r"(?P<name>.+?)-(?P<version>[^-]+)\.dist-info")
_DPKG_INFO: Final = "var/lib/dpkg/info"
_MERGED: Final = (b"/bin/", b"/sbin/", b"/lib/", b"/lib32/", b"/lib64/", b"/libx32/")
"""Folders that became links to those below `/usr`: packages list their files under either name."""
_RPM_TIMEOUT_SECONDS: Final = 20


def owners(paths: Iterable[bytes], root: Path = Path("/")) -> dict[bytes, str]:
    """Return `NAME VERSION` by path, for those of some absolute, resolved paths that belong to a package.

    Args:
        paths: Of files.
        root: Where the databases of the system's packages are looked for.
    """
    left = set(paths)
    found: dict[bytes, str] = {}
    for ask in (_distributions, _conda, _dpkg, _apk, _rpm):
        if left:
            found.update(ask(left, root))
            left -= found.keys()
    return found


def _distributions(paths: set[bytes], root: Path) -> Iterator[tuple[bytes, str]]:
    by_site: dict[bytes, dict[bytes, bytes]] = {}
    for path in paths:
        if inside := _SITE.match(path):
            by_site.setdefault(inside[1], {})[inside[2]] = path
    for site, wanted in by_site.items():
        for record in _glob(Path(os.fsdecode(site)), "*.dist-info/RECORD"):
            named = _DIST_INFO.fullmatch(record.parent.name)
            if named is None:
                continue
            # The path is the first field, and in quotes only where it holds a comma.
            listed = {line.split(b",", 1)[0] for line in _bytes(record).splitlines()}
            for name in listed & wanted.keys():
                yield wanted[name], storable(f"{named['name'].replace('_', '-').lower()} {named['version']}")


def _conda(paths: set[bytes], root: Path) -> Iterator[tuple[bytes, str]]:
    by_prefix: dict[Path, dict[str, bytes]] = {}
    for path in paths:
        prefix = next((p for p in Path(os.fsdecode(path)).parents if (p / "conda-meta").is_dir()), None)
        if prefix is not None:
            by_prefix.setdefault(prefix, {})[os.path.relpath(os.fsdecode(path), prefix)] = path
    for prefix, wanted in by_prefix.items():
        for about in _glob(prefix / "conda-meta", "*.json"):
            try:
                package = json.loads(_bytes(about))
                named = f"{package['name']} {package['version']}"
                for name in wanted.keys() & set(package["files"]):
                    yield wanted[name], storable(named)
            except (ValueError, KeyError, TypeError):
                continue


def _dpkg(paths: set[bytes], root: Path) -> Iterator[tuple[bytes, str]]:
    wanted = dict(_spellings(paths))
    found: dict[bytes, str] = {}
    for file in _glob(root / _DPKG_INFO, "*.list"):
        for listed in wanted.keys() & set(_bytes(file).split(b"\n")):
            found[wanted[listed]] = file.name.removesuffix(".list")
    if found:
        versions = _dpkg_versions(_bytes(root / "var/lib/dpkg/status").decode("utf-8", "replace"))
        for owned, package in found.items():
            name = package.partition(":")[0]
            yield owned, f"{name} {versions.get(package) or versions.get(name, '')}".strip()


def _dpkg_versions(status: str) -> dict[str, str]:
    """Return versions by package name, and by `NAME:ARCHITECTURE`, as the lists of foreign packages are called."""
    found: dict[str, str] = {}
    for paragraph in status.split("\n\n"):
        about = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " ")
        name, version = about.get("Package"), about.get("Version", "")
        if name:
            found.setdefault(name, version)
            found[f"{name}:{about.get('Architecture')}"] = version
    return found


def _apk(paths: set[bytes], root: Path) -> Iterator[tuple[bytes, str]]:
    wanted = dict(_spellings(paths))
    name = version = ""
    folder = b""
    for line in _bytes(root / "lib/apk/db/installed").split(b"\n"):
        kind, value = line[:2], line[2:]
        if kind == b"P:":
            name = value.decode("utf-8", "replace")
        elif kind == b"V:":
            version = value.decode("utf-8", "replace")
        elif kind == b"F:":
            folder = b"/" + value + b"/"
        elif kind == b"R:" and (path := wanted.get(folder + value)):
            yield path, f"{name} {version}"


def _rpm(paths: set[bytes], root: Path) -> Iterator[tuple[bytes, str]]:
    program = shutil.which("rpm") if (root / "var/lib/rpm").is_dir() else None
    if program is None:
        return
    for path in sorted(paths):
        # One by one: rpm says "not owned" on standard output too, in the user's language.
        command = [program, "-qf", "--qf", "%{NAME} %{VERSION}-%{RELEASE}\n", os.fsdecode(path)]
        try:
            done = subprocess.run(
                command, capture_output=True, timeout=_RPM_TIMEOUT_SECONDS, check=False, process_group=0
            )
        except (OSError, subprocess.SubprocessError):
            return
        if done.returncode == 0 and (lines := done.stdout.decode("utf-8", "replace").splitlines()):
            yield path, storable(lines[0])


def _spellings(paths: set[bytes]) -> Iterator[tuple[bytes, bytes]]:
    for path in paths:
        yield path, path
        if path.startswith(b"/usr") and path[4:].startswith(_MERGED):
            yield path[4:], path


def _glob(folder: Path, pattern: str) -> list[Path]:
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
