"""`repro merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def merge(
    part: Annotated[
        list[str],
        typer.Argument(
            metavar="JOIN|PART...", help="The id of a join; or each part: a run id, or the folder of a run."
        ),
    ],
    incomplete: Annotated[
        bool, typer.Option("--incomplete", help="Merge what is there; each node that is missing is a gap.")
    ] = False,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long to wait for the missing nodes of a join.", min=0)
    ] = 0.0,
    trust: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="A public key to trust for this once. Repeatable.")
    ] = None,
    allow_unknown_signer: Annotated[
        bool, typer.Option("--allow-unknown-signer", help="Take parts that no trusted key signed.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Put the parts of a run on several nodes together, and seal the run that they are.

    Each part was recorded with `repro record --join ID`. With a store that all nodes share, the last one to finish does
    this by itself. Parts in other stores are named by their folders, and are brought into this store.

    Example: repro merge job-17
    """
    from repro.cli import terminal
    from repro.cli.show import node_lines
    from repro.evidence import trust as trust_store
    from repro.evidence.store import Store, home
    from repro.record.nodes import merge as put_together

    store = Store(home())
    with terminal.progress(quiet=json) as show:
        merged = put_together(
            part,
            store,
            trust_store.trusted_keys(store, tuple(trust or ())),
            incomplete=incomplete,
            wait_seconds=wait,
            allow_unknown_signer=allow_unknown_signer,
            progress=show,
        )
    record = merged.record
    if json:
        terminal.answer({"run_id": record.run.run_id, "status": record.run.status, "gaps": len(record.gaps)})
        return
    already = ", as they were before" if merged.already else ""
    print(terminal.plain(f"run {record.run.run_id} {record.run.status}: the parts of all nodes together{already}"))
    for line in node_lines(record):
        print(terminal.plain(f"  {line}"))
    for gap in record.gaps:
        if gap.topic == "join":
            print(terminal.plain(f"  {gap.topic}: {gap.subject}: {gap.reason}"))
