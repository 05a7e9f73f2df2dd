"""What `repro record` does, without typer: half of what the command costs over the bare one would be typer's start.

The usual command line is read here; whatever is not plain (help, a mistake, an abbreviation) goes the long way, through
`repro.cli.record`, whose options a test holds equal to these.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from repro.errors import STRICT_GAP, UsageError

if TYPE_CHECKING:
    from repro.evidence.model import Tolerance
    from repro.record.determinism import Mode
    from repro.record.recorder import Recorded
    from repro.record.settings import Wheelhouse


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of `repro record`, as documented in `repro.cli.record`."""

    command: tuple[str, ...] = ()
    tolerance: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    no_trace: bool = False
    wheelhouse: bool = False
    no_wheelhouse: bool = False
    strict: bool = False
    determinism: Mode = "off"
    trace_every: int | None = None
    trace_budget: float | None = None
    lock_timeout: float = 600.0
    json: bool = False


FLAGS: Final = {
    "--strict": "strict",
    "--json": "json",
    "--no-trace": "no_trace",
    "--wheelhouse": "wheelhouse",
    "--no-wheelhouse": "no_wheelhouse",
}
CHOICES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {"--determinism": ("determinism", ("off", "warn", "strict"))}
REPEATED: Final = {"--tolerance": "tolerance", "--data": "data"}
NUMBERS: Final[dict[str, tuple[str, type[int] | type[float]]]] = {
    "--lock-timeout": ("lock_timeout", float),
    "--trace-every": ("trace_every", int),
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

    request = Request(
        argv=options.command,
        working_directory=Path.cwd(),
        environment=dict(os.environ),
        tolerances=tuple(_tolerance(text) for text in options.tolerance),
        declared=options.data,
        trace=not options.no_trace,
        tracing=chosen(options.trace_every, options.trace_budget),
        wheelhouse=_wheelhouse(options),
        determinism=options.determinism,
        lock_timeout_seconds=options.lock_timeout,
    )
    with progress(quiet=options.json) as show:
        recorded = record(request, Store(home()), progress=show)
    if options.json:
        _print_json(recorded)
    else:
        for line in _summary(recorded):
            say(line)
    sys.exit(STRICT_GAP if options.strict and recorded.record.gaps else recorded.exit_status)


def _wheelhouse(options: Options) -> Wheelhouse | None:
    if options.wheelhouse and options.no_wheelhouse:
        raise UsageError("--wheelhouse and --no-wheelhouse contradict each other", hint="give one of them, or neither")
    return "always" if options.wheelhouse else "never" if options.no_wheelhouse else None


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
        lines.append(f"{len(record.gaps)} gap{'s' * (len(record.gaps) > 1)}:")
        lines += [f"  {gap.topic}: {gap.subject}: {gap.reason}" for gap in record.gaps[:5]]
    if len(record.gaps) > 5:
        lines.append(f"  … and {len(record.gaps) - 5} more: repro show {run.run_id}")
    return lines


def _print_json(recorded: Recorded) -> None:
    import json

    from repro.cli.terminal import say_raw

    run = recorded.record.run
    document = {
        "run_id": run.run_id,
        "status": run.status,
        "exit_status": recorded.exit_status,
        "gaps": len(recorded.record.gaps),
        "manifest": str(recorded.directory.manifest),
        "new_key": recorded.new_key,
    }
    say_raw(json.dumps(document))
