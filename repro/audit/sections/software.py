"""What lies under the code: edited distributions, packages of the operating system, mapped libraries, programs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Final

from repro.audit.difference import Difference, keyed, replaying
from repro.audit.wording import counted, listed
from repro.evidence.model import PackageChange, Record, SharedObject, SystemPackage

_NAMED: Final = 40
"""Differences of one kind that are told one by one; the others are counted in one line."""
_VERSION: Final = re.compile(r"(-[0-9a-f]{8,})?((\.\d+)*\.so(\.\d+)*|\.cpython-[^/]*\.so|\.abi3\.so)$")
"""What a library's file name says beside its name: the hash that a wheel's builder gave it, and its version."""


def edits(left: Record, right: Record) -> Iterator[Difference]:
    """Compare the installed files that are not what their distribution installed, one line for each distribution."""
    ours, theirs = _edited(left.package_changes), _edited(right.package_changes)
    for name in sorted({*ours, *theirs}):
        before, after = ours.get(name, {}), theirs.get(name, {})
        if before != after:
            other = sorted(path for path in {*before, *after} if before.get(path) != after.get(path))
            note = f"installed files edited by hand: {listed(other)}"
            sides = (counted(len(side), "edited file") if side else None for side in (before, after))
            yield Difference(section="environment", name=name, left=next(sides), right=next(sides), note=note)


def _edited(rows: Iterable[PackageChange]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        found.setdefault(row.package, {})[row.path] = row.found_sha256 or row.state
    return found


def system_packages(left: Record, right: Record) -> Iterator[Difference]:
    """Compare the packages of the operating system; a replay that saw none at all says nothing about them."""
    if not left.system_packages or not right.system_packages:
        return iter(())
    ours, theirs = ({_title(row): _build(row) for row in record.system_packages} for record in (left, right))
    return _limited(keyed("environment", ours, theirs), "packages of the operating system")


def _title(row: SystemPackage) -> str:
    return f"{row.manager} {row.name}:{row.architecture}"


def _build(row: SystemPackage) -> str:
    return f"{row.version} {row.build}" if row.build else row.version


def libraries(left: Record, right: Record) -> Iterator[Difference]:
    """Compare mapped libraries by name and build: `libcudnn: libcudnn.so.9.1 build 1f… → libcudnn.so.9.2 build 2e…`.

    Those that one side alone mapped are one line; of a replay they are told in `one_sided_libraries`.
    """
    ours, theirs = _builds(left.shared_objects), _builds(right.shared_objects)
    common = ours.keys() & theirs
    before, after = ({name: side[name] for name in common} for side in (ours, theirs))
    yield from _limited(keyed("environment", before, after), "mapped libraries")
    if not replaying(left, right):
        for side, names in (("left", ours.keys() - theirs), ("right", theirs.keys() - ours)):
            if names and ours and theirs:
                text = f"{len(names):,} mapped"
                yield Difference(
                    section="environment",
                    name=f"libraries on the {side} alone",
                    left=text if side == "left" else None,
                    right=text if side == "right" else None,
                    note=listed(sorted(names)),
                )


def one_sided_libraries(left: Record, right: Record) -> tuple[str, ...]:
    """Return the names of the libraries that were seen mapped on one side alone."""
    ours, theirs = _builds(left.shared_objects), _builds(right.shared_objects)
    return tuple(sorted(ours.keys() ^ theirs.keys())) if ours and theirs else ()


def _builds(rows: Iterable[SharedObject]) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    for row in rows:
        name = PurePosixPath(row.path).name
        found.setdefault(_VERSION.sub("", name), set()).add(f"{name} {_identity(row)}")
    return {name: ", ".join(sorted(builds)) for name, builds in found.items()}


def _identity(row: SharedObject) -> str:
    if row.build_id:
        return f"build {row.build_id}"
    return row.sha256 or f"of {row.size_bytes:,} bytes"


def programs(left: Record, right: Record) -> Iterator[Difference]:
    """Compare which programs were executed, by path and content, where the kernel layer watched both runs."""
    if not left.programs or not right.programs:
        return iter(())
    ours, theirs = _executed(left), _executed(right)
    return _limited(keyed("processes", ours, theirs, "a program that the run executed"), "executed programs")


def _executed(record: Record) -> Mapping[str, str]:
    return {row.path: row.sha256 or "not hashed" for row in record.programs}


def hidden_variables(left: Record, right: Record) -> Iterator[Difference]:
    """Compare which variables were set without their values being stored: each run salts its commitments anew."""
    if replaying(left, right):
        return iter(())
    stated = "set, value not stored"
    ours, theirs = (
        {fact.name: stated for fact in record.facts if fact.topic == "commitment"} for record in (left, right)
    )
    return _limited(keyed("variables", ours, theirs), "variables")


def _limited(differences: Iterable[Difference], noun: str) -> Iterator[Difference]:
    """Pass the first differences on, and count the others in one."""
    found = list(differences)
    yield from found[:_NAMED]
    rest = found[_NAMED:]
    if rest:
        note = f"{len(rest):,} more {noun} differ, from {rest[0].name} on; `repro show --json` lists them of each run"
        yield Difference(section=found[0].section, name=noun, left=None, right=None, note=note)
