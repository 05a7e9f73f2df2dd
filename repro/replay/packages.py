"""What an environment rebuilt from the lock would lack, and whether the run needs it. Pure."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import unquote, urlsplit

from repro.errors import AlteredError
from repro.evidence import canonical
from repro.evidence.model import Package, Record
from repro.replay.conditions import HOST_HINT, Condition

_PIN: Final = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([^\s;\\]+)", re.MULTILINE)
_RECORDER: Final = "repro"


def pins(lock: str) -> dict[str, str]:
    """Return name (PEP 503) to version of each distribution that a hash-pinned requirements file installs."""
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in _PIN.findall(lock)}


def imported_names(sources: Iterable[bytes]) -> frozenset[str]:
    """Return the top-level modules that Python sources import by name; one that does not parse names none."""
    found: set[str] = set()
    for source in sources:
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return frozenset(found)


def lacking(record: Record, locked: Mapping[str, str], imports: frozenset[str]) -> tuple[Condition, ...]:
    """Judge each distribution that was installed and is not in the lock.

    - An editable install of the recorded tree: its source is put on the path. At risk, as it has no metadata.
    - One that the tree imports by name, or from whose directory the run read code: impossible.
    - Any other is left out: at risk, since another package may import it.
    """
    # A name may be installed at several places of the path; the lock holds the one that counts.
    there = {package.name for package in record.packages if locked.get(package.name) == package.version}
    absent = [package for package in record.packages if package.name not in there]
    return tuple(_judge(record, package, imports) for package in absent)


def _judge(record: Record, package: Package, imports: frozenset[str]) -> Condition:
    name, recorded = f"package {package.name}", f"{package.version} ({package.origin})"
    if package.name == _RECORDER:
        return Condition(
            name=name, recorded=recorded, here=None, effect="none", note="the recorder itself; runs do not use it"
        )
    source = source_directory(package)
    if package.origin == "editable" and source and _is_recorded(source, record):
        note = "an editable install whose source tree is recorded: importable from it, but not installed"
        return Condition(name=name, recorded=recorded, here="source on the path", effect="bitwise at risk", note=note)
    if package.name.replace("-", "_") in {module.lower() for module in imports} or _read_from(record, source):
        note = f"{package.name} {package.version} is imported by the run, and {_why(record, package)}"
        return Condition(name=name, recorded=recorded, here=None, effect="impossible", note=note, hint=HOST_HINT)
    if package.origin == "editable":
        return Condition(name=name, recorded=recorded, here=None, effect="none", note="the run read no code of it")
    note = f"not in the lock, as {_why(record, package)}; the code does not import it by name"
    return Condition(name=name, recorded=recorded, here=None, effect="bitwise at risk", note=note)


def _why(record: Record, package: Package) -> str:
    reasons = {gap.subject: gap.reason for gap in record.gaps if gap.topic == "lock"}
    if reason := reasons.get(package.name) or reasons.get("index"):
        return f"it could not be locked: {reason}"
    return f"it is not in the lock (origin: {package.origin})"


def _read_from(record: Record, source: str | None) -> bool:
    if source is None:
        return False
    return any(
        f.role == "input" and f.category == "code" and f.path.startswith(f"{source}/") for f in record.data_files
    )


def source_directory(package: Package) -> str | None:
    """Return the encoded directory that an editable install points to."""
    if package.origin != "editable":
        return None
    if not package.direct_url:  # `setup.py develop` leaves the metadata beside the sources
        return package.location
    url = urlsplit(package.direct_url)
    return canonical.encode_path(unquote(url.path, errors="surrogateescape")) if url.scheme == "file" else None


def source_paths(record: Record) -> tuple[str, ...]:
    """Return the directories that make editable installs of recorded trees importable.

    They are relative to the root, and climb out of it (`../library`) for a source tree that lay outside.
    """
    named = record.fact("code", "source_paths")
    if named is not None:
        listed = [path for path in _listed(named) if _is_recorded(path, record)]
        return tuple(os.path.relpath(path, record.run.root) for path in listed)
    found: list[str] = []
    for package in record.packages:
        source = source_directory(package)
        below = _below(source, record.run.root) if source else None
        if below is None:
            continue
        sub = "" if below == "." else f"{below}/"
        if any(file.path.startswith(f"{sub}src/") for file in record.code_files):
            found.append(f"{sub}src")
        found.append(below)
    return tuple(dict.fromkeys(found))


def _listed(text: str) -> list[str]:
    """Return the absolute paths in the fact `code/source_paths`, a JSON list.

    Raises:
        AlteredError: It is no such list: this recorder never wrote it.
    """
    found = canonical.loads(text.encode("utf-8"))
    if not isinstance(found, list) or not all(isinstance(path, str) and path.startswith("/") for path in found):
        raise AlteredError("the fact code/source_paths is no list of absolute paths")
    return found


def _is_recorded(source: str, record: Record) -> bool:
    """Say whether the code files of a record hold a source tree: it is in the root, or files of it are there."""
    prefix = source.rstrip("/") + "/"
    return _below(source, record.run.root) is not None or any(f.path.startswith(prefix) for f in record.code_files)


def _below(path: str, root: str) -> str | None:
    """Return an encoded path relative to the root, `.` for the root itself, `None` outside it."""
    relative = os.path.relpath(path, root)
    return None if relative == ".." or relative.startswith("../") else relative
