"""`repro record`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

TraceEvery = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Fingerprint the first steps and every N-th: weights, gradients, data and random states, to the bit. "
        "0: none; then losses alone say where a replay parts from this run, and no tensor is named. "
        "By default as often as the budget allows.",
    ),
]
TraceBudget = Annotated[
    float | None,
    typer.Option(metavar="PERCENT", help="How much of the training's time fingerprints may take; by default 0.5."),
]
Determinism = Annotated[
    Literal["off", "warn", "strict"],
    typer.Option(
        help="Ask PyTorch and the libraries under it for deterministic algorithms; a replay asks the same. An "
        "operation that has none warns, or fails the run, and is named with its line. This may change the bits and "
        "the speed of the run; off changes nothing.",
    ),
]
SelfCheck = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Once the command has ended, run the first N steps of its training again, here and at once, and seal "
        "whether they are the same; where they are not, name the operation.",
    ),
]

Tolerances = Annotated[
    list[str] | None,
    typer.Option(metavar="METRIC=ABSOLUTE", help="How far a replay may be from this run; sealed with it. Repeatable."),
]
Unjudged = Annotated[
    list[str] | None,
    typer.Option(
        metavar="METRIC",
        help="A metric that decides nothing on a replay, such as a time: it is compared and shown; sealed with the "
        "run. A pattern may stand for names: '*_seconds'. Repeatable.",
    ),
]
Data = Annotated[
    list[str] | None,
    typer.Option(metavar="PATH", help="Data that the run uses: hashed whole, seen to be read or not. Repeatable."),
]
NoTrace = Annotated[
    bool,
    typer.Option(
        "--no-trace",
        help="Do not ask the kernel for files: what compiled code and other programs open is not seen.",
    ),
]
Join = Annotated[
    str | None,
    typer.Option(metavar="ID", help="Record this as one node's part of a run on several; the same id on each."),
]
Nodes = Annotated[
    int | None,
    typer.Option(metavar="N", help="How many nodes the join has; by default what the launcher is told.", min=1),
]
Node = Annotated[
    int | None,
    typer.Option(metavar="K", help="Which of them this is, from 0; by default what the launcher is told.", min=0),
]
Wheelhouse = Annotated[
    bool, typer.Option("--wheelhouse", help="Keep every wheel of the environment, so that a replay needs no index.")
]
NoWheelhouse = Annotated[bool, typer.Option("--no-wheelhouse", help="Keep no wheel, not even those that no index has.")]
LockTimeout = Annotated[
    float, typer.Option(metavar="SECONDS", help="How long to wait, after the command, for the environment lock.")
]


def record(
    command: Annotated[list[str], typer.Argument(metavar="COMMAND", help="The command to run and watch.")],
    tolerance: Tolerances = None,
    unjudged: Unjudged = None,
    data: Data = None,
    no_trace: NoTrace = False,
    trace_every: TraceEvery = None,
    trace_budget: TraceBudget = None,
    wheelhouse: Wheelhouse = False,
    no_wheelhouse: NoWheelhouse = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 125 if anything was not seen, or a self-check not passed.")
    ] = False,
    determinism: Determinism = "off",
    self_check: SelfCheck = None,
    lock_timeout: LockTimeout = 600.0,
    join: Join = None,
    nodes: Nodes = None,
    node: Node = None,
    json: Annotated[bool, typer.Option("--json", help="End with one line of JSON on standard error.")] = False,
) -> None:
    """Run a command, watch it, and seal what was seen.

    Its code is not changed, and its output and exit status pass through. What comes after `--` is the command's own.

    Example: repro record -- python train.py --lr 0.1
    """
    from repro.cli.recording import Options, run

    run(
        Options(
            command=tuple(command),
            tolerance=tuple(tolerance or ()),
            unjudged=tuple(unjudged or ()),
            data=tuple(data or ()),
            no_trace=no_trace,
            trace_every=trace_every,
            trace_budget=trace_budget,
            wheelhouse=wheelhouse,
            no_wheelhouse=no_wheelhouse,
            strict=strict,
            determinism=determinism,
            self_check=self_check,
            lock_timeout=lock_timeout,
            join=join,
            nodes=nodes,
            node=node,
            json=json,
        )
    )
