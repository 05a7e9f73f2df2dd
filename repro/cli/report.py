"""`repro report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_FORMATS = ("json", "html")


def report(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run id, a unique prefix of one, @last or @prev.")
    ] = "@last",
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where to write; by default beside the run in the store.")
    ] = None,
    formats: Annotated[
        list[str] | None, typer.Option("--format", metavar="NAME", help="json, html or text. Repeatable.")
    ] = None,
    trust: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="A public key to trust for this once. Repeatable.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write the signed report on a run and its newest replay.

    JSON, and a page for any browser, without network. `repro verify FOLDER` checks them.

    Example: repro report @last
    """
    from datetime import UTC, datetime

    from repro.audit.compose import report_on
    from repro.audit.publish import write
    from repro.cli import terminal
    from repro.evidence import trust as trust_store
    from repro.evidence.store import Store, home

    store = Store(home())
    directory = store.find(run)
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    made = report_on(directory, store, trust_store.trusted_keys(store, tuple(trust or ())), reported_at=now)
    paths = write(made, out or directory.report, tuple(formats or _FORMATS), store)
    if json:
        terminal.answer({"report_id": made.report_id, "files": [str(path) for path in paths]})
        return
    for light in made.lights:
        print(terminal.plain(f"{light.name}: {light.word}"))
    for path in paths:
        print(path)
