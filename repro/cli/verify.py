"""`repro verify`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from repro.errors import SAME, AlteredError, InconclusiveError, UntrustedError

if TYPE_CHECKING:
    from repro.audit.verify import Verified
    from repro.evidence.integrity import Integrity
    from repro.evidence.keys import PublicKeys


def verify(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run id, a unique prefix of one, @last, @prev; or a report's folder.")
    ] = "@last",
    trust: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="A public key to trust for this once. Repeatable.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say whether a record or a report is what was signed.

    And by whom, and whether it is complete. Exits 0 if it is intact and signed by a trusted key, 3 if anything was
    altered, 4 if the signer is unknown or there is no signature, 5 if evidence is missing.

    Example: repro verify @last
    """
    from repro.audit.verify import verify as examine
    from repro.cli import terminal
    from repro.evidence import trust as trust_store
    from repro.evidence.store import Store, home

    store = Store(home())
    trusted = trust_store.trusted_keys(store, tuple(trust or ()))
    if "/" in run or Path(run).is_dir():
        _verify_report(Path(run), trusted, json=json)
    verified = examine(store.find(run), store, trusted)
    if json:
        terminal.answer(_document(verified))
    else:
        for line in _lines(verified):
            print(terminal.plain(line))
    sys.exit(max(exit_code(verified.integrity), _exit_code_of_parts(verified)))


def _verify_report(folder: Path, trusted: PublicKeys, *, json: bool) -> NoReturn:
    """Check the files of a report against its statement and against one another.

    Raises:
        AlteredError: One is not what was signed, or does not follow from `report.json`.
        InconclusiveError: One is missing.
    """
    from repro.audit.publish import check
    from repro.cli import terminal

    report, signers = check(folder, trusted)
    word = "INTACT" if signers else "INTACT-UNKNOWN-SIGNER"
    if json:
        lights = {light.name: light.word for light in report.lights}
        terminal.answer({"report_id": report.report_id, "report": word, "signers": list(signers), "says": lights})
    else:
        print(terminal.plain(f"report {report.report_id}: {word}"))
        for keyid in signers:
            print(f"  signed by {keyid}, which this machine trusts")
        print(terminal.plain("  it says: " + ", ".join(f"{light.name} {light.word}" for light in report.lights)))
    sys.exit(SAME if signers else UntrustedError.exit_code)


def exit_code(examined: Integrity) -> int:
    """Return the exit status for an examined record."""
    if any(problem.kind == "altered" for problem in examined.problems):
        return AlteredError.exit_code
    if examined.light in ("INTACT-UNKNOWN-SIGNER", "UNSIGNED"):
        return UntrustedError.exit_code
    return InconclusiveError.exit_code if examined.problems else SAME


def _exit_code_of_parts(verified: Verified) -> int:
    """Return the exit status for the parts of a merged run; one that is not here is no fault of the record."""
    wrong = any(part.state not in ("as it was merged", "not here") for part in verified.parts)
    return AlteredError.exit_code if wrong else SAME


def _lines(verified: Verified) -> list[str]:
    from repro.audit.lineage import lineage

    examined = verified.integrity
    lines = [f"record {examined.run_id}: {examined.light}"]
    lines += [f"  signed by {keyid}, which this machine trusts" for keyid in examined.signers]
    lines += [f"  signed by {keyid}, which this machine does not know" for keyid in examined.strangers]
    lines += [f"  {problem.member}: {problem.sentence}" for problem in examined.problems]
    if examined.record is not None:
        record = examined.record
        lines.append(
            f"  {len(record.code_files)} code files, {len(record.metrics)} trace points, {len(record.gaps)} gaps"
        )
        lines.append(f"  lineage {lineage(record).status}: {lineage(record).sentence}")
    for part in verified.parts:
        problem = f": {part.sentence}" if part.sentence else ""
        lines.append(f"  node {part.node}, run {part.run_id}: {part.state}{problem}")
    if verified.outputs:
        lines.append("outputs where the run left them (they inform, and decide nothing)")
        lines += [f"  {output.path}: {output.state}" for output in verified.outputs]
    return lines


def _document(verified: Verified) -> dict[str, object]:
    import dataclasses

    examined = verified.integrity
    return {
        "run_id": examined.run_id,
        "record": str(examined.light),
        "signers": list(examined.signers),
        "unknown_signers": list(examined.strangers),
        "problems": [dataclasses.asdict(problem) for problem in examined.problems],
        "parts": [dataclasses.asdict(part) for part in verified.parts],
        "outputs": [dataclasses.asdict(output) for output in verified.outputs],
    }
