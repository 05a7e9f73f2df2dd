"""Publish a report: the files that the formats make of it, and the statement that binds them.

`report.json` is the report. Every other file is made from it and from nothing else, so they cannot disagree unseen:
`check` renders each anew and compares the bytes. One signed statement, `report.dsse.json`, covers them all.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any, Final

from repro import plugs
from repro.audit import formats
from repro.audit.report import Report, parse
from repro.errors import AlteredError, ExecutionError, InconclusiveError
from repro.evidence import canonical, seal
from repro.evidence.keys import PublicKeys
from repro.evidence.store import Store

NAME: Final = "report"
STATEMENT: Final = "report.dsse.json"


def write(report: Report, directory: Path, chosen: Sequence[str], store: Store) -> tuple[Path, ...]:
    """Render a report, write its files and sign one statement over them all.

    Args:
        report: What `repro.audit.compose.build` made.
        directory: Made if it is not there; an earlier report in it is replaced, formats not chosen now are removed.
        chosen: Names of formats; `json` is always written, for the others are made from it.
        store: Whose key signs.

    Returns:
        The files, the statement last.

    Raises:
        UsageError: There is no such format.
        ExecutionError: A file cannot be written.
    """
    rendered = {f"{NAME}{plug.SUFFIX}": plug.render(report) for plug in map(_format, sorted({"json", *chosen}))}
    _make_room(directory, keep=rendered)
    for name, data in rendered.items():
        seal.write_once(directory / name, data)
    subjects = [(name, canonical.digest(data)) for name, data in sorted(rendered.items())]
    envelope = seal.seal_statement(seal.AUDIT_REPORT, subjects, _predicate(report), store)
    seal.write_once(directory / STATEMENT, envelope)
    return (*(directory / name for name in sorted(rendered)), directory / STATEMENT)


def _make_room(directory: Path, keep: Container[str]) -> None:
    """Remove what an earlier report left: a page that the new statement does not cover must not lie beside it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name in {STATEMENT, *_file_names()}:
            if name not in keep:
                (directory / name).unlink(missing_ok=True)
    except OSError as error:
        raise ExecutionError(f"cannot write the report to {directory}: {error.strerror}") from error


def _file_names() -> dict[str, Any]:
    """Return every format there is, by the name of the file that it makes."""
    return {f"{NAME}{plug.SUFFIX}": plug for plug in map(_format, plugs.names(formats))}


def _format(name: str) -> Any:
    return plugs.load(formats, name)


def _predicate(report: Report) -> dict[str, Any]:
    examined = [report.subject, *([report.replay] if report.replay else [])]
    return {
        "report_id": report.report_id,
        "reported_at": report.reported_at,
        "tool_version": report.tool_version,
        "lights": {light.name: light.word for light in report.lights},
        "examined": [{"run_id": run.run_id, "manifest_sha256": run.manifest_sha256} for run in examined],
    }


def check(directory: Path, trusted: PublicKeys) -> tuple[Report, tuple[str, ...]]:
    """Check a written report: its signature, each file's digest, and that each file says what `report.json` says.

    Returns:
        The report, and the keyids of the trusted keys that signed it; none means that a stranger did.

    Raises:
        AlteredError: A file is not what was signed, or does not follow from `report.json`.
        InconclusiveError: A file is missing.
    """
    envelope = seal.open_envelope(_read(directory / STATEMENT), trusted)
    subjects = seal.read_statement(envelope.payload, seal.AUDIT_REPORT)["subject"]
    digests = {subject["name"]: f"sha256:{subject['digest']['sha256']}" for subject in subjects}
    if f"{NAME}.json" not in digests:
        raise AlteredError(f"{STATEMENT} does not cover {NAME}.json")
    report = parse(_member(directory, f"{NAME}.json", digests[f"{NAME}.json"]))
    for name, plug in _file_names().items():
        if name not in digests and (directory / name).exists():
            raise AlteredError(f"{name} is not covered by {STATEMENT}", hint="make the report anew: repro report RUN")
        if name in digests and _member(directory, name, digests[name]) != plug.render(report):
            raise AlteredError(
                f"{name} does not say what {NAME}.json says", hint="believe neither; make the report anew"
            )
    return report, envelope.signers


def _member(directory: Path, name: str, expected: str) -> bytes:
    data = _read(directory / name)
    found = canonical.digest(data)
    if found != expected:
        raise AlteredError(f"{name} was altered: signed was {expected}, found is {found}")
    return data


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InconclusiveError(f"{path} cannot be read: {error.strerror}", hint="make it: repro report RUN") from None
