"""`repro record`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from repro.errors import STRICT_GAP, UsageError

if TYPE_CHECKING:
    from repro.evidence.model import Tolerance
    from repro.record.recorder import Recorded


def record(
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND...", help="The command to run and watch.")],
    tolerance: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC=ABSOLUTE", help="How far a replay may be from this run; sealed with it. Repeatable."
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 125 if anything could not be seen.")] = False,
    lock_timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long to wait, after the command, for the environment lock.")
    ] = 180.0,
    json: Annotated[bool, typer.Option("--json", help="End with one line of JSON on standard error.")] = False,
) -> None:
    """Run a command, watch it with no change to its code, and seal what was seen.

    The command's own output and exit status pass through.

    Example: repro record -- python train.py --lr 0.1
    """
    import os

    from repro.cli.terminal import progress, say
    from repro.evidence.store import Store, home
    from repro.record.recorder import Request
    from repro.record.recorder import record as run_and_record

    request = Request(
        argv=tuple(command),
        working_directory=Path.cwd(),
        environment=dict(os.environ),
        tolerances=tuple(_tolerance(text) for text in tolerance or ()),
        lock_timeout_seconds=lock_timeout,
    )
    with progress(quiet=json) as show:
        recorded = run_and_record(request, Store(home()), progress=show)
    if json:
        _print_json(recorded)
    else:
        for line in _summary(recorded):
            say(line)
    if strict and recorded.record.gaps:
        sys.exit(STRICT_GAP)
    sys.exit(recorded.exit_status)


def _tolerance(text: str) -> Tolerance:
    from repro.evidence.model import Tolerance

    metric, equals, absolute = text.rpartition("=")
    try:
        value = float(absolute)
    except ValueError:
        value = -1.0
    if not equals or not metric or not 0 <= value < float("inf"):
        raise UsageError(f"--tolerance {text!r} is not METRIC=ABSOLUTE", hint="for example: --tolerance loss=1e-6")
    return Tolerance(metric=metric, absolute=value)


def _summary(recorded: Recorded) -> list[str]:
    """Say in a few lines what was sealed."""
    record, run = recorded.record, recorded.record.run
    inputs = sum(f.role == "input" and f.category == "data" for f in record.data_files)
    outputs = sum(f.role == "output" for f in record.data_files)
    lines = [
        f"run {run.run_id} {run.status}, sealed: {len(record.code_files)} code files, {len(record.packages)} packages, "
        f"{inputs} data files read, {outputs} written, {len(record.metrics)} trace points"
    ]
    if recorded.new_key:
        lines.append(f"made this machine's signing key; its fingerprint is {recorded.new_key}")
    if record.gaps:
        lines.append(f"{len(record.gaps)} gaps:")
        lines += [f"  {gap.topic}: {gap.subject}: {gap.reason}" for gap in record.gaps[:5]]
    if len(record.gaps) > 5:
        lines.append(f"  … and {len(record.gaps) - 5} more: repro show {run.run_id}")
    return lines


def _print_json(recorded: Recorded) -> None:
    import json

    run = recorded.record.run
    document = {
        "run_id": run.run_id,
        "status": run.status,
        "exit_status": recorded.exit_status,
        "gaps": len(recorded.record.gaps),
        "manifest": str(recorded.directory.manifest),
        "new_key": recorded.new_key,
    }
    print(json.dumps(document), file=sys.stderr)
