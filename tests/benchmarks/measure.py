"""Timing whole processes in interleaved rounds, and comparing each with its neighbour of the same round.

A round runs every command once, in an order that rotates from round to round, each in a fresh folder. A command is
compared with the baseline **of its own round**, so that a machine that grows slower slows both sides. Round 0 warms up
and is not counted. Wall time is what a person waits for; CPU time, of the process and every child that was waited for,
is what holds still on a busy machine.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Something to time; `prepare` is called with the fresh folder and is not timed."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[Path], None] | None = None
    may_fail: bool = False
    """A peer's: where it fails, it is left out, and the others are timed without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One execution of one command."""

    name: str
    round: int
    wall_seconds: float
    cpu_seconds: float
    stdout: str


class CommandFailedError(Exception):
    """A command that was to be timed did not succeed; its time would mean nothing."""


def run_rounds(
    commands: Sequence[Command], rounds: int, scratch: Path, progress: Callable[[str], None], *, warm_up: bool = True
) -> list[Sample]:
    """Run a warm-up and `rounds` rounds and return the samples of the rounds.

    Raises:
        CommandFailedError: A command that may not fail exited with another status than 0.
    """
    samples = []
    failed: set[str] = set()
    for number in range(0 if warm_up else 1, rounds + 1):
        turn = number % len(commands)
        for command in (*commands[turn:], *commands[:turn]):
            if command.name in failed:
                continue
            progress(f"round {number} of {rounds}: {command.name}")
            try:
                sample = _run_once(command, number, scratch / f"{command.name}-{number}".replace("/", "-"))
            except CommandFailedError as error:
                if not command.may_fail:
                    raise
                progress(f"left out: {error}")
                failed.add(command.name)
                continue
            if number:
                samples.append(sample)
    return [sample for sample in samples if sample.name not in failed]


def _run_once(command: Command, number: int, folder: Path) -> Sample:
    folder.mkdir(parents=True)
    if command.prepare:
        command.prepare(folder)
    log = folder.with_suffix(".log")
    with log.open("wb") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            command.argv,
            cwd=folder,
            env=dict(command.environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall_seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    stdout = log.read_text(errors="replace")
    if process.returncode:
        raise CommandFailedError(f"{command.name} exited with {process.returncode}:\n{stdout[-2000:]}")
    _remove(folder)
    return Sample(
        name=command.name,
        round=number,
        wall_seconds=wall_seconds,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        stdout=stdout,
    )


def _remove(folder: Path) -> None:
    """Remove a folder in which a peer may have made files and folders read-only."""
    for parent, _, _ in os.walk(folder):
        Path(parent).chmod(0o700)
    shutil.rmtree(folder)


def of(samples: Iterable[Sample], name: str) -> list[Sample]:
    """Return the samples of one command, in the order of their rounds."""
    return sorted((sample for sample in samples if sample.name == name), key=lambda sample: sample.round)


def paired(samples: Sequence[Sample], name: str, baseline: str) -> list[tuple[Sample, Sample]]:
    """Return the samples of a command, each with the baseline's of the same round."""
    return list(zip(of(samples, name), of(samples, baseline), strict=True))


def spread(values: Iterable[float], digits: int = 0) -> str:
    """Write the median, and the smallest and largest value in brackets."""
    kept = sorted(values)
    return f"{statistics.median(kept):.{digits}f} ({kept[0]:.{digits}f} to {kept[-1]:.{digits}f})"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def over_baseline(samples: Sequence[Sample], baseline: str, names: Sequence[str]) -> str:
    """Write a table of commands over their baseline, in milliseconds, cheapest first."""
    rows = []
    for name in names:
        pairs = paired(samples, name, baseline)
        wall = [1e3 * (sample.wall_seconds - base.wall_seconds) for sample, base in pairs]
        cpu = [1e3 * (sample.cpu_seconds - base.cpu_seconds) for sample, base in pairs]
        whole = spread(1e3 * sample.wall_seconds for sample, _ in pairs)
        rows.append((statistics.median(wall), [name, whole, spread(wall), spread(cpu)]))
    rows.sort(key=lambda row: row[0])
    bare = of(samples, baseline)
    first = [baseline, spread(1e3 * sample.wall_seconds for sample in bare), "", ""]
    header = ("command", "wall ms", f"wall over {baseline}, ms", f"CPU over {baseline}, ms")
    return table(header, [first, *(row for _, row in rows)])


def beside(samples: Sequence[Sample], baseline: str) -> str:
    """Write a table of commands in seconds, quickest first, each also as a multiple of the baseline of its round.

    What a workload prints as `seconds: NUMBER` is what it spent in the thing measured alone, without starting up.
    """
    bases = {sample.round: sample.wall_seconds for sample in of(samples, baseline)}
    rows = []
    for name in dict.fromkeys(sample.name for sample in samples):
        own = of(samples, name)
        wall = [sample.wall_seconds for sample in own]
        inside = [float(found) for sample in own for found in re.findall(r"^seconds: ([\d.]+)", sample.stdout, re.M)]
        cells = [
            name,
            spread(wall, 2),
            spread((sample.cpu_seconds for sample in own), 2),
            spread((sample.wall_seconds / bases[sample.round] for sample in own), 2),
            spread(inside, 2) if inside else "",
        ]
        rows.append((statistics.median(wall), cells))
    rows.sort(key=lambda row: row[0])
    return table(("command", "wall s", "CPU s", f"wall, times {baseline}", "inside, s"), (cells for _, cells in rows))


def machine() -> dict[str, str]:
    """Say where a figure was taken."""
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = next((line.partition(":")[2].strip() for line in cpu.splitlines() if line.startswith("model name")), "?")
    return {
        "cpu": model,
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": f"{os.getloadavg()[0]:.1f}",
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
