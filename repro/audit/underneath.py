"""The tables of what lies under the code: edited distributions, libraries, programs, operating system."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from repro.audit.report import Table
from repro.audit.tabulate import NONE, table
from repro.evidence.model import Record


def software(record: Record) -> Iterator[Table]:
    """Yield the tables, empty ones too."""
    yield table(
        "Installed files that were edited",
        "Files that are not what the distribution installed: somebody changed the environment by hand.",
        "Distribution:code, Path:code, State, As installed:digest, As found:digest",
        (
            (row.package, row.path, row.state, row.recorded_sha256, row.found_sha256 or NONE)
            for row in record.package_changes
        ),
    )
    yield _programs(record)
    yield _libraries(record)
    yield table(
        "Packages of the operating system",
        "",
        "Manager, Name:code, Version:code, Architecture:code, Build:code",
        ((row.manager, row.name, row.version, row.architecture, row.build or NONE) for row in record.system_packages),
    )


def _programs(record: Record) -> Table:
    """Return each program once, with how often it was executed: a training may start one for every sample."""
    times: dict[tuple[str, str | None], int] = {}
    first: dict[tuple[str, str | None], tuple[str, ...]] = {}
    for row in record.programs:
        key = (row.path, row.sha256)
        times[key] = times.get(key, 0) + 1
        first.setdefault(key, row.argv)
    return table(
        "Programs that were executed",
        "As the kernel saw it, whether Python or not; a program that ran more than once is listed once.",
        "Program:code, Times:number, First command:code, SHA-256:digest",
        ((key[0], f"{times[key]:,}", " ".join(first[key]), key[1] or NONE) for key in times),
    )


def _libraries(record: Record) -> Table:
    rows = sorted(record.shared_objects, key=lambda row: (row.owner is None, row.owner or "", row.path))
    return table(
        "Libraries that were mapped",
        "By the distribution or system package that they belong to. A build id names one build, whatever the file is "
        "called.",
        "Belongs to, Library:code, Build id:code, Bytes:number, SHA-256:digest",
        (
            (
                row.owner or NONE,
                PurePosixPath(row.path).name,
                row.build_id or NONE,
                f"{row.size_bytes:,}",
                row.sha256 or NONE,
            )
            for row in rows
        ),
    )
