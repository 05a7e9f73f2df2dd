"""What the training trace costs: a step of three models beside other trackers, a point from the script to the seal."""

from __future__ import annotations

import statistics
import sys
import sysconfig
from collections.abc import Iterator, Sequence

import measure
import peers
from measure import Sample
from rig import REPRO, ROOT, WORKLOADS, Bench, newest_manifest, said

BARE = "bare"
RECORDED = "repro record"
TRACKERS = ("mlflow", "sacred", "tensorboard", "wandb")
_MOST_STEPS = {"mlflow": 1_000}
"""Of those whose call takes milliseconds: the median does not need more."""


def step_toy(bench: Bench) -> tuple[str, list[Sample]]:
    """A step of four weights, 20,000 of them: what is done at every step, beside trackers that log its loss."""
    return _steps(bench, "toy", 20_000)


def step_cnn(bench: Bench) -> tuple[str, list[Sample]]:
    """A step of a small CNN, 3,000 of them, beside trackers that log its loss."""
    return _steps(bench, "cnn", 3_000)


def step_transformer(bench: Bench) -> tuple[str, list[Sample]]:
    """A step of a small transformer, 150 of them, beside trackers that log its loss."""
    return _steps(bench, "transformer", 150)


def million(bench: Bench) -> tuple[str, list[Sample]]:
    """A million steps of four weights: the loop, the sealing, and the size of the record."""
    return _steps(bench, "toy", 1_000_000, trackers=())


def points(bench: Bench) -> tuple[str, list[Sample]]:
    """A million points of one metric, by `repro.log_metric`, into the log; from the log to the seal; and back."""
    script = str(WORKLOADS / "points.py")
    count = str(int(1_000_000 * bench.scale))
    ours = bench.command("repro", sys.executable, script, count, add={"PYTHONPATH": str(ROOT)})
    theirs = [
        bench.command(
            name, python, script, str(max(100, int(2_000 * bench.scale))), name, add=_torch(name), may_fail=True
        )
        for name, python in _trackers(TRACKERS)
    ]
    samples = bench.rounds_of([ours, *theirs])
    header = ("into", "µs a point", "CPU µs a point", "points a second", "bytes a point")
    rows = []
    for name in dict.fromkeys(sample.name for sample in samples):
        own = measure.of(samples, name)
        for stage in ("log", "seal", "verify"):
            if spent := [each for sample in own if (each := said(sample, stage)) is not None]:
                cpu = measure.spread((said(sample, f"{stage} cpu") or 0.0 for sample in own), 2)
                rate = measure.spread(1e6 / each for each in spent)
                size = said(own[-1], f"{stage} bytes")
                row = [f"{name}: {stage}", measure.spread(spent, 2), cpu, rate]
                rows.append([*row, "" if size is None else f"{size:.1f}"])
    return measure.table(header, rows), samples


def _steps(bench: Bench, model: str, count: int, trackers: Sequence[str] = TRACKERS) -> tuple[str, list[Sample]]:
    steps = max(20, int(count * bench.scale))
    script = (str(WORKLOADS / "steps.py"), model, str(steps))
    commands = [
        bench.command(BARE, sys.executable, *script),
        bench.command(RECORDED, REPRO, "record", "--", sys.executable, *script),
        *(
            bench.command(
                name,
                python,
                *script[:2],
                str(min(steps, _MOST_STEPS.get(name, steps))),
                name,
                add=_torch(name),
                may_fail=True,
            )
            for name, python in _trackers(trackers)
        ),
    ]
    bench.prime()
    samples = bench.rounds_of(commands)
    return f"{_over(samples)}\n\n{_record(bench, samples)}", samples


def _trackers(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        if python := peers.program(name, "python"):
            yield name, str(python)


def _torch(name: str) -> dict[str, str]:
    return {"TORCH_SITE": sysconfig.get_path("purelib")} if name in TRACKERS else {}


def _over(samples: Sequence[Sample]) -> str:
    """Write what a step takes, and what each adds to the bare step of its round; cheapest first."""
    rows = []
    for name in dict.fromkeys(sample.name for sample in samples):
        row = [name]
        pairs = measure.paired(samples, name, BARE)
        for word in ("median step", "mean step", "cpu step"):
            steps = [(said(own, word) or 0.0, said(base, word) or 0.0) for own, base in pairs]
            if word == "median step":
                row.append(measure.spread((own for own, _ in steps), 1))
            row.append(measure.spread((own - base for own, base in steps), 1))
            row.append(measure.spread((100 * (own / base - 1) for own, base in steps), 1))
        rows.append((statistics.median(said(own, "median step") or 0.0 for own, _ in pairs), row))
    rows.sort(key=lambda row: row[0])
    over = [f"{word}, {unit}" for word in ("median", "mean", "CPU") for unit in ("µs over bare", "% over bare")]
    return measure.table(("with", "µs a step", *over), (row for _, row in rows))


def _record(bench: Bench, samples: Sequence[Sample]) -> str:
    """Write how much the newest record takes a step: in the log while training, and once sealed."""
    import duckdb

    manifest = newest_manifest(bench.home)
    with duckdb.connect(str(manifest), read_only=True) as connection:
        ((points_,),) = connection.execute("SELECT count(*) FROM metric").fetchall()
        ((traced,),) = connection.execute("SELECT count(DISTINCT (anchor, step)) FROM fingerprint").fetchall()
        ((steps,),) = connection.execute("SELECT max(step) + 1 FROM metric WHERE name = 'loss'").fetchall()
        every = connection.execute("SELECT value FROM setting WHERE name = 'trace.every'").fetchall()
    size = manifest.stat().st_size
    logged = said(measure.of(samples, RECORDED)[-1], "log bytes a step") or 0.0
    row = [f"{steps:,}", f"{points_:,}", f"{traced:,}", every[0][0] if every else "", f"{logged:.0f}"]
    header = ("steps", "points", "traced steps", "every", "log, bytes a step", "manifest KiB", "manifest, bytes a step")
    return measure.table(header, [[*row, f"{size / 1024:.0f}", f"{size / steps:.1f}"]])
