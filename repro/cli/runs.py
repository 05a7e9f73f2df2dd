"""`repro runs`."""

from __future__ import annotations

from typing import Annotated

import typer


def runs(
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the runs of this machine, newest first.

    Example: repro runs
    """
    import dataclasses

    from repro.cli import terminal
    from repro.evidence.store import Store, home

    store = Store(home())
    summaries = store.runs()
    if json:
        terminal.answer([dataclasses.asdict(summary) for summary in summaries])
        return
    if not summaries:
        print(f"no runs in {store.root} yet; make one with: repro record -- python train.py")
        return
    rows = [
        (
            s.run_id,
            s.started_at[:19].replace("T", " "),
            s.status,
            s.replay_of or "-",
            terminal.shorten(" ".join(s.command), 60),
        )
        for s in summaries
    ]
    print(terminal.table(rows, header=("run", "started (UTC)", "status", "replay of", "command")))
