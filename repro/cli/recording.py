"""What `repro record` does, without typer: half of what the command costs over the bare one would be typer's start.

The usual command line is read here; whatever is not plain (help, a mistake, an abbreviation) goes the long way, through
`repro.cli.record`, whose options a test holds equal to these.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from repro.errors import STRICT_GAP, UsageError

if TYPE_CHECKING:
    from repro.cli.joining import Joined
    from repro.evidence.model import Record, Tolerance
    from repro.evidence.store import Store
    from repro.record.determinism import Mode
    from repro.record.recorder import Recorded, Request
    from repro.record.settings import Wheelhouse


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of `repro record`, as documented in `repro.cli.record`."""

    command: tuple[str, ...] = ()
    tolerance: tuple[str, ...] = ()
    unjudged: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    no_trace: bool = False
    wheelhouse: bool = False
    no_wheelhouse: bool = False
    strict: bool = False
    determinism: Mode = "off"
    self_check: int | None = None
    trace_every: int | None = None
    trace_budget: float | None = None
    lock_timeout: float = 600.0
    join: str | None = None
    nodes: int | None = None
    node: int | None = None
    json: bool = False


FLAGS: Final = {
    "--strict": "strict",
    "--json": "json",
    "--no-trace": "no_trace",
    "--wheelhouse": "wheelhouse",
    "--no-wheelhouse": "no_wheelhouse",
}
CHOICES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {"--determinism": ("determinism", ("off", "warn", "strict"))}
TEXTS: Final = {"--join": "join"}
REPEATED: Final = {"--tolerance": "tolerance", "--unjudged": "unjudged", "--data": "data"}
NUMBERS: Final[dict[str, tuple[str, type[int] | type[float]]]] = {
    "--lock-timeout": ("lock_timeout", float),
    "--nodes": ("nodes", int),
    "--node": ("node", int),
    "--trace-every": ("trace_every", int),
    "--self-check": ("self_check", int),
    "--trace-budget": ("trace_budget", float),
}
_NUMBER: Final[dict[type, re.Pattern[str]]] = {int: re.compile(r"\d{1,9}"), float: re.compile(r"\d+(\.\d+)?")}


def parse(arguments: Sequence[str]) -> Options | None:
    """Read a plain command line of `repro record`; `None` where typer has to answer."""
    found: dict[str, Any] = {}
    rest = list(arguments)
    while rest and rest[0].startswith("-") and rest[0] != "--":
        name = rest.pop(0)
        if name in FLAGS:
            found[FLAGS[name]] = True
        elif name in REPEATED and rest:
            found[REPEATED[name]] = (*found.get(REPEATED[name], ()), rest.pop(0))
        elif name in TEXTS and rest:
            found[TEXTS[name]] = rest.pop(0)
        elif name in CHOICES and rest and rest[0] in CHOICES[name][1]:
            found[CHOICES[name][0]] = rest.pop(0)
        elif name in NUMBERS and rest and _NUMBER[NUMBERS[name][1]].fullmatch(rest[0]):
            option, number = NUMBERS[name]
            found[option] = number(rest.pop(0))
        else:
            return None
    command = tuple(rest[1:] if rest[:1] == ["--"] else rest)
    return Options(command=command, **found) if command else None


def run(options: Options) -> NoReturn:
    """Record a command, say what was sealed, and exit with the command's own status.

    Raises:
        UsageError: There is no such command, declared data do not exist, or an option or setting cannot be understood.
        ExecutionError: The store cannot be written to; the command was not started.
        UnsealedError: The command ran, but its record could not be sealed.
    """
    from repro.cli.terminal import progress, say
    from repro.evidence.store import Store, home
    from repro.record.recorder import Request, record
    from repro.record.tracing import chosen

    store = Store(home())
    request = Request(
        argv=options.command,
        working_directory=Path.cwd(),
        environment=dict(os.environ),
        tolerances=_tolerances(options),
        declared=options.data,
        trace=not options.no_trace,
        tracing=chosen(options.trace_every, options.trace_budget),
        wheelhouse=_wheelhouse(options),
        determinism=options.determinism,
        lock_timeout_seconds=options.lock_timeout,
    )
    with progress(quiet=options.json) as show:
        checked = _with_check(request, options, store, show)
        recorded, joined = _as_part(checked, options, store, lambda each: record(each, store, progress=show))
    if options.json:
        _print_json(recorded, joined)
    else:
        for line in [*_summary(recorded), *(joined.lines if joined else ())]:
            say(line)
    sys.exit(STRICT_GAP if options.strict and not _is_all_well(recorded) else recorded.exit_status)


def _as_part(
    request: Request, options: Options, store: Store, record: Callable[[Request], Recorded]
) -> tuple[Recorded, Joined | None]:
    """Record a command: by itself, or as one node's part of a run on several."""
    if options.join is None:
        if options.nodes is not None or options.node is not None:
            raise UsageError("--nodes and --node are for a run on several nodes", hint="name it: --join ID")
        return record(request), None
    from repro.cli.joining import record_part
    from repro.record.join import Asked

    return record_part(request, Asked(join_id=options.join, nodes=options.nodes, node=options.node), store, record)


def _with_check(request: Request, options: Options, store: Store, show: Callable[[str], None]) -> Request:
    if options.self_check is None:
        return request
    from dataclasses import replace

    from repro.cli.selfcheck import checker

    return replace(request, check=checker(options.self_check, store, show))


def _is_all_well(recorded: Recorded) -> bool:
    """Say whether all was seen, and a self-check, where one was wanted, has passed."""
    return not recorded.record.gaps and recorded.record.fact("self_check", "outcome") in (None, "passed")


def _wheelhouse(options: Options) -> Wheelhouse | None:
    if options.wheelhouse and options.no_wheelhouse:
        raise UsageError("--wheelhouse and --no-wheelhouse contradict each other", hint="give one of them, or neither")
    return "always" if options.wheelhouse else "never" if options.no_wheelhouse else None


def _tolerances(options: Options) -> tuple[Tolerance, ...]:
    """Return the limits, and what has none since it is not to be judged."""
    from repro.evidence.judging import without_limit

    limits = tuple(map(_tolerance, options.tolerance))
    both = sorted({limit.metric for limit in limits} & set(options.unjudged))
    if both or not all(options.unjudged):
        named = f"--unjudged {both[0]!r} and a tolerance for it" if both else "--unjudged with no name"
        raise UsageError(f"{named} cannot be understood", hint="for example: --unjudged epoch_seconds")
    return (*limits, *map(without_limit, options.unjudged))


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
    lines += _ranks(record)
    lines += _self_check(record)
    if recorded.new_key:
        lines.append(f"made this machine's signing key; its fingerprint is {recorded.new_key}")
    if record.gaps:
        lines.append(f"{len(record.gaps)} gap{'s' * (len(record.gaps) > 1)}:")
        lines += [f"  {gap.topic}: {gap.subject}: {gap.reason}" for gap in record.gaps[:5]]
    if len(record.gaps) > 5:
        lines.append(f"  … and {len(record.gaps) - 5} more: repro show {run.run_id}")
    return lines


def _ranks(record: Record) -> list[str]:
    """Say which ranks ended before their time, how and when."""
    if all(process.rank is None for process in record.processes):
        return []
    from repro.audit.ranks import sentences

    return list(sentences(record))


def _self_check(record: Record) -> list[str]:
    if record.fact("self_check", "outcome") is None:
        return []
    from repro.audit.selfcheck import sentence

    return [sentence(record)]


def _print_json(recorded: Recorded, joined: Joined | None) -> None:
    import json

    from repro.cli.terminal import say_raw

    run = recorded.record.run
    document: dict[str, object] = {
        "run_id": run.run_id,
        "status": run.status,
        "exit_status": recorded.exit_status,
        "gaps": len(recorded.record.gaps),
        "self_check": recorded.record.fact("self_check", "outcome"),
        "manifest": str(recorded.directory.manifest),
        "new_key": recorded.new_key,
    }
    if joined is not None:
        document["join"] = {"id": joined.join_id, "node": joined.node, "missing": joined.missing, "run": joined.merged}
    say_raw(json.dumps(document))
