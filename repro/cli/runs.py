"""`repro runs`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from repro.evidence.store import RunSummary


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
            _join(s),
            terminal.shorten(" ".join(s.command), 60),
        )
        for s in summaries
    ]
    print(terminal.table(rows, header=("run", "started (UTC)", "status", "replay of", "join", "command")))


def _join(run: RunSummary) -> str:
    """Say which part of a join a run is, or that it is the whole."""
    if run.join_id is None:
        return "-"
    return f"{run.join_id}, {'all' if run.node is None else f'node {run.node} of'} {run.nodes}"
