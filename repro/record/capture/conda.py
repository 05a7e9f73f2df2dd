"""The packages of a conda environment, from the records that conda leaves in `conda-meta`; conda itself is not run.

Each `conda-meta/NAME-VERSION-BUILD.json` is a PrefixRecord: `name`, `version`, `build`, `channel`, `subdir`, `url`,
`md5`, `depends`, … The explicit list is what `conda list --explicit --md5` prints; `conda create --file` takes it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from repro.evidence.canonical import decode_path, storable
from repro.evidence.model import Gap, SystemPackage
from repro.record.capture import Context, Findings, observed
from repro.record.redact import url

_TOKEN: Final = re.compile(r"(?<=/t/)[^/]+(?=/)")
_MD5: Final = re.compile(r"[0-9a-f]{32}")
_NAMED: Final = 5


def beside(context: Context) -> Findings:
    """List the packages of the environment that the interpreter, or else the activated one, belongs to."""
    folder = next((each for each in _folders(context) if each.is_dir()), None)
    if folder is None:
        return Findings()
    records, broken = _read(folder)
    if not records and not broken:
        return Findings()
    lines = [line for record in _in_order(records) if (line := _line(record)) is not None]
    reasons = [_reason(broken, "records could not be read")] if broken else []
    if nowhere := sorted(str(record["name"]) for record in records.values() if _line(record) is None):
        reasons.append(_reason(nowhere, "packages came from no channel, so that they are not in the explicit list"))
    facts = [observed("environment", "conda_packages", len(records))]
    if lines:
        platforms = sorted({_text(record, "subdir") for record in records.values()} - {"noarch", ""})
        facts.append(observed("environment", "conda_explicit", context.objects.put(_explicit(platforms, lines))))
    return Findings(
        facts=tuple(facts),
        gaps=tuple(Gap(topic="environment", subject="conda packages", reason=reason) for reason in reasons),
        system_packages=tuple(_row(records[name]) for name in sorted(records)),
    )


def _folders(context: Context) -> Iterator[Path]:
    if context.interpreter is not None:
        for prefix in (context.interpreter.prefix, context.interpreter.base_prefix):
            yield Path(os.fsdecode(decode_path(prefix))) / "conda-meta"
    elif activated := context.environment.get("CONDA_PREFIX"):
        yield Path(activated) / "conda-meta"


def _read(folder: Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the records by package, and the names of files that are none."""
    records: dict[str, dict[str, Any]] = {}
    broken = []
    for path in sorted(folder.glob("*.json")):
        try:
            found = json.loads(path.read_bytes())
            if not isinstance(found["name"], str) or not isinstance(found["version"], str):
                raise TypeError
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            broken.append(storable(path.name))
        else:
            records[found["name"]] = found
    return records, broken


def _in_order(records: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Sort so that a package comes after those that it depends on, as conda does; else by name."""
    done: dict[str, dict[str, Any]] = {}
    waiting = [(name, False) for name in sorted(records, reverse=True)]
    begun: set[str] = set()
    while waiting:
        name, is_ready = waiting.pop()
        if is_ready:
            done[name] = records[name]
        elif name in records and name not in begun:
            begun.add(name)
            waiting.append((name, True))
            waiting += [(each, False) for each in sorted(_needs(records[name]), reverse=True)]
    return list(done.values())


def _needs(record: dict[str, Any]) -> set[str]:
    depends = record.get("depends")
    if not isinstance(depends, list):
        return set()
    return {str(each).split(maxsplit=1)[0] for each in depends if str(each).strip()}


def _line(record: dict[str, Any]) -> str | None:
    """Return the package's line in an explicit list, without credentials; `None` where it came from no channel."""
    address, md5 = _text(record, "url"), _text(record, "md5")
    if "://" not in address or any(character.isspace() for character in address):
        return None
    return _clean(address) + (f"#{md5}" if _MD5.fullmatch(md5) else "")


def _explicit(platforms: list[str], lines: list[str]) -> bytes:
    head = [
        "# This file may be used to create an environment using:",
        "# $ conda create --name <env> --file <this file>",
    ]
    head += [f"# platform: {platform}" for platform in platforms[:1]]
    return "\n".join([*head, "@EXPLICIT", *lines, ""]).encode()


def _row(record: dict[str, Any]) -> SystemPackage:
    build = f"{_text(record, 'build')} {_clean(_text(record, 'channel'))}".strip()
    return SystemPackage(
        manager="conda",
        name=storable(record["name"]),
        version=storable(record["version"]),
        architecture=_text(record, "subdir") or "unknown",
        build=build or None,
    )


def _text(record: dict[str, Any], name: str) -> str:
    value = record.get(name)
    return storable(value) if isinstance(value, str) else ""


def _clean(address: str) -> str:
    """Remove credentials: also the token that a private channel has in its path."""
    return url(_TOKEN.sub("<redacted>", address))


def _reason(names: list[str], what: str) -> str:
    return f"{len(names)} {what}: {', '.join(names[:_NAMED])}" + (", …" if len(names) > _NAMED else "")
