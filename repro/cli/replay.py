"""`repro replay`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from repro.audit.verdict import Verdict
    from repro.evidence.store import RunDirectory, Store
    from repro.replay.plan import Plan
    from repro.replay.replayer import Options, Replayed

AllowChangedData = Annotated[
    bool, typer.Option("--allow-changed-data", help="Go on though data changed; the verdict is then indeterminate.")
]
PassEnv = Annotated[
    list[str] | None, typer.Option(metavar="NAME", help="An environment variable to pass on from here. Repeatable.")
]
Trust = Annotated[
    list[Path] | None, typer.Option(metavar="FILE", help="A public key to trust for this once. Repeatable.")
]
Steps = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Run the first N steps of the training alone, and compare these. Exits 0 if they are equal; the "
        "verdict on the whole run stays open.",
    ),
]
Operations = Annotated[
    int | None,
    typer.Option(
        metavar="STEP", help="Record each operation of that step, counted from 0. It is slow at that step alone."
    ),
]
PythonFile = Annotated[Path | None, typer.Option(metavar="FILE", help="The interpreter to build the environment with.")]
Executor = Annotated[
    str, typer.Option(help="Where to run: venv rebuilds the environment, host uses the one still there.")
]


def replay(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run id, a unique prefix of one, @last or @prev.")
    ] = "@last",
    executor: Executor = "venv",
    allow_changed_data: AllowChangedData = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the scratch directory.")] = False,
    pass_env: PassEnv = None,
    trust: Trust = None,
    allow_unknown_signer: Annotated[
        bool, typer.Option("--allow-unknown-signer", help="Replay a record that no trusted key signed.")
    ] = False,
    python: PythonFile = None,
    steps: Steps = None,
    operations: Operations = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be the same and what differs; run nothing.")
    ] = False,
    meeting: Annotated[str | None, typer.Option(metavar="JOIN:NODE:NODES:PORT", hidden=True)] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run a recorded command again, and say where it differs.

    The environment is rebuilt from the lock, the code from the record; data are compared before the start. The
    command's own output goes to standard error, the verdict to standard output. Exits 0 if the replay matched, 1 if it
    did not, 5 if that cannot be said. Of the first steps alone, likewise: 0 if they are all there and equal.

    Example: repro replay @last
    """
    from repro.record.excerpt import excerpt
    from repro.replay.meeting import read as read_meeting
    from repro.replay.replayer import Options

    options = Options(
        executor=executor,
        allow_changed_data=allow_changed_data,
        keep=keep,
        pass_variables=tuple(pass_env or ()),
        trust=tuple(trust or ()),
        allow_unknown_signer=allow_unknown_signer,
        python=python,
        excerpt=excerpt(steps, operations),
        meeting=None if meeting is None else read_meeting(meeting),
    )
    _run(run, options, dry_run=dry_run, json=json)


def _run(run: str, options: Options, *, dry_run: bool, json: bool) -> None:
    from repro.cli import terminal
    from repro.evidence.store import Store, home
    from repro.replay.replayer import dry_run as plan_only
    from repro.replay.replayer import replay as run_again

    store = Store(home())
    original = store.find(run)
    summary = store.summary(original)
    if summary.join_id is not None and summary.node is None:
        _run_nodes(original, store, options, dry_run=dry_run, json=json)
        return
    with terminal.progress(quiet=json) as show:
        if dry_run:
            _print_plan(plan_only(original, store, options, progress=show), json=json)
            return
        replayed = run_again(original, store, options, progress=show)
        show("comparing")
        verdict = _attest(original, replayed, store, options)
    _print_verdict(replayed, verdict, json=json)


def _run_nodes(original: RunDirectory, store: Store, options: Options, *, dry_run: bool, json: bool) -> None:
    """Replay a run on several nodes, all of them here, and judge it as one."""
    import dataclasses

    from repro.audit.attest import attest
    from repro.audit.verdict import exit_code
    from repro.cli import terminal
    from repro.errors import UsageError
    from repro.evidence.trust import trusted_keys
    from repro.replay.nodes import replay_nodes

    if dry_run:
        raise UsageError(
            f"run {original.run_id} is on several nodes", hint="ask for the plan of each part: repro verify names them"
        )
    with terminal.progress(quiet=json) as show:
        merged = replay_nodes(original, store, options, progress=show)
        verdict = attest(original, merged.directory, store, trusted_keys(store, options.trust))
    replay_id = merged.record.run.run_id
    if json:
        terminal.answer(
            {"run_id": original.run_id, "replay_id": replay_id, "verdict": dataclasses.asdict(verdict), "scratch": None}
        )
    else:
        for line in (f"{verdict.label}: {verdict.sentence}", *verdict.compared, *verdict.differences, *verdict.caveats):
            print(terminal.plain(line))
        print(
            f"replay {replay_id} of {original.run_id}, all nodes on one host; for the report: repro report {replay_id}"
        )
    sys.exit(exit_code(verdict))


def _attest(original: RunDirectory, replayed: Replayed, store: Store, options: Options) -> Verdict:
    from repro.audit.attest import attest
    from repro.evidence.trust import trusted_keys

    return attest(
        original,
        replayed.replay.directory,
        store,
        trusted_keys(store, options.trust),
        changed_data=tuple(mismatch.path for mismatch in replayed.changed_data),
    )


def _print_plan(plan: Plan, *, json: bool) -> None:
    import dataclasses

    from repro.cli import terminal
    from repro.errors import InconclusiveError

    conditions = [{**dataclasses.asdict(c), "state": c.state} for c in plan.conditions]
    if json:
        terminal.answer({"run_id": plan.run_id, "argv": plan.argv, "lock": plan.lock, "conditions": conditions})
    else:
        rows = [(c.state, c.effect, c.name, c.recorded or "-", c.here or "-", c.note or "") for c in plan.conditions]
        print(terminal.table(rows, header=("state", "effect", "condition", "recorded", "here", "what follows")))
    if plan.impossible:
        sys.exit(InconclusiveError.exit_code)


def _print_verdict(replayed: Replayed, verdict: Verdict, *, json: bool) -> None:
    from repro.audit.verdict import exit_code
    from repro.cli import terminal

    if json:
        terminal.answer(_document(replayed, verdict))
    else:
        for line in _lines(replayed, verdict):
            print(terminal.plain(line))
    sys.exit(exit_code(verdict))


def _document(replayed: Replayed, verdict: Verdict) -> dict[str, object]:
    import dataclasses

    return {
        "run_id": replayed.original.run.run_id,
        "replay_id": replayed.replay.run_id,
        "exit_status": replayed.replay.exit_status,
        "verdict": dataclasses.asdict(verdict),
        "conditions": [dataclasses.asdict(c) for c in replayed.plan.conditions if c.state != "same"],
        "scratch": str(replayed.scratch) if replayed.scratch else None,
    }


def _lines(replayed: Replayed, verdict: Verdict) -> Iterator[str]:
    from repro.cli.terminal import shorten

    for condition in replayed.plan.conditions:
        if condition.matters:
            yield f"not as recorded: {shorten(condition.sentence, 300)}"
    yield f"{verdict.label}: {verdict.sentence}"
    yield from (f"  {phrase}" for phrase in verdict.compared)
    if verdict.differences:
        yield "not equal"
        yield from (f"  {phrase}" for phrase in verdict.differences)
    yield from verdict.caveats
    yield from _operations(replayed)
    replay_id = replayed.replay.run_id
    yield f"replay {replay_id} of {replayed.original.run.run_id}; for the signed report: repro report {replay_id}"


def _operations(replayed: Replayed) -> Iterator[str]:
    """Say what was seen of the operations of a step, where they were told one by one."""
    if not replayed.replay.record.operations:
        return
    from repro.audit.rebase import rebase
    from repro.audit.trace.operations import compare_operations, operations_sentence

    number, replay_id = len(replayed.replay.record.operations), replayed.replay.run_id
    yield f"{number} operations were recorded: repro show {replay_id} --all; of two such replays: repro diff A B"
    yield from map(operations_sentence, compare_operations(replayed.original, rebase(replayed.replay.record)))
