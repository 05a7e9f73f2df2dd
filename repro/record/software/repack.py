"""Make a wheel again from the files that were installed from it, as its RECORD lists them.

The same files give the same bytes: members are sorted, stored without compression, and dated 1980. It is not the wheel
that was installed: what an installer added is left out, scripts get back the first line that wheels have, and the
hashes in its RECORD are those of the files as they are now. The format is PEP 427's.
"""

from __future__ import annotations

import base64
import configparser
import hashlib
import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from repro.record.software.installed import Inside, rows

_ADDED_BY_INSTALLERS: Final = {"INSTALLER", "REQUESTED", "RECORD", "RECORD.jws", "RECORD.p7s", "direct_url.json"}
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_CHUNK_BYTES: Final = 1024 * 1024
_FIRST_LINE: Final = re.compile(rb"#!\S*/python(w?)[0-9.]*(?=\s)")
_LONG_FIRST_LINE: Final = re.compile(rb"#!/bin/sh\n'''exec' [^\n]*\n' '''(?=\n)")
"""What pip writes where the interpreter's path is too long for a first line, or has a space."""


class RepackError(Exception):
    """There is no making a wheel of this; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    name: str
    """In the archive."""
    path: str
    is_script: bool


def tags(wheel: Path) -> list[str]:
    """Return the tags in a `WHEEL` file, such as `py3-none-any`; none where it cannot be read."""
    return _fields(wheel, "tag")


def _fields(wheel: Path, name: str) -> list[str]:
    try:
        lines = wheel.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    pairs = (line.partition(":") for line in lines)
    return [value.strip() for key, _, value in pairs if key.strip().lower() == name and value.strip()]


def repack(record: Path, folder: Path, is_late: Callable[[], bool]) -> Path:
    """Write a wheel into a folder and return its path.

    Args:
        record: The RECORD of an installed distribution.
        folder: Where the wheel goes.
        is_late: Asked between pieces of files.

    Raises:
        RepackError: It lists files outside the environment, or is no wheel's; or there was no more time.
        OSError: A file cannot be read or written.
    """
    target = folder / _file_name(record.parent)
    stem = record.parent.name.removesuffix(".dist-info")
    members = sorted(_members(record, stem), key=lambda member: (".dist-info/" in member.name, member.name))
    lines = []
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for member in members:
            digest, size = _add(archive, member, is_late)
            quoted = f'"{member.name}"' if "," in member.name else member.name
            lines.append(f"{quoted},sha256={digest},{size}\n")
        name = f"{record.parent.name}/RECORD"
        text = "".join(lines) + f"{name},,\n"
        archive.writestr(_info(name, len(text), executable=False), text.encode("utf-8", "surrogateescape"))
    return target


def _file_name(metadata: Path) -> str:
    found = [tag.split("-") for tag in tags(metadata / "WHEEL")]
    triples = [tag for tag in found if len(tag) == 3]
    if not triples:
        raise RepackError("it was not installed from a wheel")
    parts = [".".join(sorted({triple[place] for triple in triples})) for place in range(3)]
    build = _fields(metadata / "WHEEL", "build")
    name = "-".join([metadata.name.removesuffix(".dist-info"), *build[:1], *parts]) + ".whl"
    if not re.fullmatch(r"[\w.+!-]+\.whl", name) or name.count("-") not in (4, 5):
        raise RepackError("its name cannot be that of a wheel")
    return name


def _members(record: Path, stem: str) -> Iterator[_Member]:
    location = os.fspath(record.parent.parent)
    inside, generated = Inside(location), _generated_scripts(record.parent / "entry_points.txt")
    for listed, _, _ in rows(record):
        path = os.path.normpath(os.path.join(location, listed))  # noqa: PTH118 - as in RECORD, which has thousands
        if path.endswith(".pyc") or _is_added(path, record.parent) or not os.path.lexists(path):
            continue
        if not inside.has(path, is_link=Path(path).is_symlink()):
            raise RepackError("it has files outside the environment")
        if path.startswith(f"{location}/"):
            yield _Member(name=path.removeprefix(f"{location}/"), path=path, is_script=False)
            continue
        below = os.path.relpath(path, inside.root)
        is_script = below.startswith("bin/")
        if not (is_script and below.removeprefix("bin/") in generated):
            kind = f"scripts/{below.removeprefix('bin/')}" if is_script else f"data/{below}"
            yield _Member(name=f"{stem}.data/{kind}", path=path, is_script=is_script)


def _is_added(path: str, metadata: Path) -> bool:
    parent, name = os.path.split(path)
    return parent == os.fspath(metadata) and name in _ADDED_BY_INSTALLERS


def _generated_scripts(entry_points: Path) -> set[str]:
    """Return the programs that an installer makes by itself."""
    parser = configparser.RawConfigParser(delimiters=("=",), strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(entry_points.read_text(encoding="utf-8"))
    except (OSError, ValueError, configparser.Error):
        return set()
    sections = [name for name in ("console_scripts", "gui_scripts") if parser.has_section(name)]
    return {option for name in sections for option in parser.options(name)}


def _add(archive: zipfile.ZipFile, member: _Member, is_late: Callable[[], bool]) -> tuple[str, int]:
    """Add a file; return its hash as RECORD has it, and its size in bytes."""
    about = os.stat(member.path)  # noqa: PTH116 - a text, as RECORD has it
    if not stat.S_ISREG(about.st_mode):
        raise RepackError("one of its files is none")
    script = _plain_script(Path(member.path).read_bytes()) if member.is_script else None
    info = _info(
        member.name, len(script) if script is not None else about.st_size, executable=about.st_mode & 0o111 != 0
    )
    hasher, size = hashlib.sha256(), 0
    with archive.open(info, "w") as target, open(member.path, "rb") as source:  # noqa: PTH123
        pieces = iter(lambda: source.read(_CHUNK_BYTES), b"") if script is None else iter((script,))
        for piece in pieces:
            if is_late():
                raise RepackError("it took longer than the run could wait")
            hasher.update(piece)
            target.write(piece)
            size += len(piece)
    return base64.urlsafe_b64encode(hasher.digest()).rstrip(b"=").decode(), size


def _plain_script(content: bytes) -> bytes:
    """Put back the first line that an installer replaces with the path of its interpreter."""
    content = _LONG_FIRST_LINE.sub(b"#!python", content, count=1) if content.startswith(b"#!/bin/sh") else content
    found = _FIRST_LINE.match(content)
    return content if found is None else b"#!python" + found[1] + content[found.end() :]


def _info(name: str, size: int, *, executable: bool) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name.encode("utf-8", "replace").decode(), _EPOCH)
    info.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
    info.create_system = 3  # Unix: else the modes do not count
    info.file_size = size
    return info
