"""Distributions and the facts of an environment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from repro.audit.difference import Difference
from repro.evidence.model import Package, Record


def packages(left: Record, right: Record) -> Iterator[Difference]:
    """Compare distributions by version, origin and, where they stand at one place, by their RECORD files."""
    ours, theirs = by_name(left.packages), by_name(right.packages)
    for name in sorted({*ours, *theirs}):
        before, after = ours.get(name, ()), theirs.get(name, ())
        if [_version(row) for row in before] != [_version(row) for row in after]:
            yield Difference(section="environment", name=name, left=_versions(before), right=_versions(after), note="")
        elif _locally_different(before, after):
            note = "same version and place, but its RECORD file, which lists its contents, differs"
            yield Difference(
                section="environment", name=name, left=before[0].record_sha256, right=after[0].record_sha256, note=note
            )


def by_name(packages: Iterable[Package]) -> dict[str, tuple[Package, ...]]:
    """Group distributions by name."""
    found: dict[str, tuple[Package, ...]] = {}
    for row in packages:
        found[row.name] = (*found.get(row.name, ()), row)
    return found


def _version(row: Package) -> str:
    return row.version if row.direct_url is None else f"{row.version} from {row.direct_url}"


def _versions(rows: tuple[Package, ...]) -> str | None:
    return ", ".join(map(_version, rows)) or None


def _locally_different(left: tuple[Package, ...], right: tuple[Package, ...]) -> bool:
    return any(
        before.location == after.location and before.record_sha256 != after.record_sha256
        for before, after in zip(left, right, strict=True)
    )
