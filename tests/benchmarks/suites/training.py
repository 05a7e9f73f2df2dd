"""What it costs while training: a whole run, a step, a point in the log."""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import measure
from measure import Command, Sample
from rig import DIGITS, ROOT, Bench, newest_manifest
from suites.startup import copy_workloads

SHORT_EPOCHS = 4


def training(bench: Bench) -> tuple[str, list[Sample]]:
    """What recording adds to a real training: examples/digits/train.py, short and long, so that start-up falls out."""
    data = bench.scratch / "digits"
    subprocess.run([sys.executable, DIGITS / "prepare.py", "--out", data], check=True, stdout=sys.stderr)

    def prepare(folder: Path) -> None:
        for name in ("digits.py", "train.py"):
            shutil.copy(DIGITS / name, folder)
        shutil.copytree(data, folder / "data")

    commands = [
        command
        for epochs in (SHORT_EPOCHS, bench.epochs)
        for command in bench.bare_and_recorded(f"{epochs} epochs", "train.py", "--epochs", str(epochs), prepare=prepare)
    ]
    samples = bench.rounds_of(commands)
    long = f"{bench.epochs} epochs"
    whole = measure.over_baseline(samples, long, [f"repro record {long}"])
    return f"{whole}\n\n{_overheads(samples, f'{SHORT_EPOCHS} epochs', long)}\n\n{_sizes(bench)}", samples


def _overheads(samples: Sequence[Sample], short: str, long: str) -> str:
    """Write the overhead of the whole long run, and of its epochs alone: long minus short, so without start and end."""
    rows = []
    for clock in ("wall_seconds", "cpu_seconds"):
        (bare_short, short_), (bare_long, long_) = (
            [
                [getattr(sample, clock) for sample in measure.of(samples, prefix + name)]
                for prefix in ("", "repro record ")
            ]
            for name in (short, long)
        )
        whole = [100 * (recorded / bare - 1) for recorded, bare in zip(long_, bare_long, strict=True)]
        both = zip(long_, short_, bare_long, bare_short, strict=True)
        steady = [100 * ((long - short) / (bare - base) - 1) for long, short, bare, base in both]
        noise = [100 * (bare / statistics.median(bare_long) - 1) for bare in bare_long]
        rows.append(
            [clock.partition("_")[0], measure.spread(whole, 1), measure.spread(steady, 1), measure.spread(noise, 1)]
        )
    header = ("clock", "whole run, % over bare", "epochs alone, % over bare", "bare runs against their own median, %")
    return measure.table(header, rows)


def _sizes(bench: Bench) -> str:
    """Write how much the newest record of the long training takes on disk."""
    import duckdb

    manifest = newest_manifest(bench.home)
    with duckdb.connect(str(manifest), read_only=True) as connection:
        ((points,),) = connection.execute("SELECT count(*) FROM metric").fetchall()
    size_bytes = manifest.stat().st_size
    statement_bytes = (manifest.parent / "statement.dsse.json").stat().st_size
    row = [str(points), f"{size_bytes / 1024:.0f}", f"{size_bytes / points:.0f}", f"{statement_bytes / 1024:.0f}"]
    return measure.table(("trace points", "manifest KiB", "bytes a point", "statement KiB"), [row])


def backward(bench: Bench) -> tuple[str, list[Sample]]:
    """Microseconds that the agent spends in a step with one backward and one optimiser step, 20,000 of them."""
    bare, recorded = bench.bare_and_recorded("backward.py", "backward.py", prepare=copy_workloads)
    samples = bench.rounds_of([bare, recorded])
    pairs = measure.paired(samples, recorded.name, bare.name)
    medians = [[float(re.findall(r"median step: ([\d.]+)", sample.stdout)[0]) for sample in pair] for pair in pairs]
    row = [
        measure.spread([base for _, base in medians], 1),
        measure.spread([ours for ours, _ in medians], 1),
        measure.spread([ours - base for ours, base in medians], 1),
    ]
    return measure.table(("bare, µs a step", "recorded, µs a step", "difference, µs"), [row]), samples


def log(bench: Bench) -> tuple[str, list[Sample]]:
    """Points a second that the event log takes, in a tight loop, one call each."""
    injected = {"PYTHONPATH": str(ROOT / "repro/agent/inject"), "REPRO_EVENTS": str(bench.scratch)}
    command = Command(
        name="log points",
        argv=(sys.executable, "log_points.py"),
        environment=bench.environment | injected,
        prepare=copy_workloads,
    )
    samples = bench.rounds_of([command])
    found = [re.findall(r"points: (\d+) seconds: ([\d.]+) bytes: (\d+)", sample.stdout)[0] for sample in samples]
    points, size_bytes = int(found[0][0]), int(found[0][2])
    seconds = [float(each[1]) for each in found]
    row = [
        measure.spread(points / each for each in seconds),
        measure.spread([1e6 * each / points for each in seconds], 2),
        f"{size_bytes / points:.0f}",
    ]
    return measure.table(("points a second", "µs a point", "bytes a point"), [row]), samples
