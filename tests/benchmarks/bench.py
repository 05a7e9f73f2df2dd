"""Measure what `repro` costs, beside bare commands and, where they are installed, beside its peers.

    python tests/benchmarks/bench.py                          the quick suites, in a quarter of an hour on two cores
    python tests/benchmarks/bench.py startup help --rounds 9  only those, more often
    python tests/benchmarks/bench.py hash_small --scale 0.1   a rehearsal on a tenth of the files
    PEERS=/path/to/environments python tests/benchmarks/bench.py startup

Markdown goes to standard output, the samples to build/bench/SUITE.json. Nothing here passes or fails: a time depends on
the machine and on what else it is doing, which is why each table says the load.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import measure
from measure import Sample
from rig import ROOT, Bench
from suites import captures, codetree, hashing, startup, steps, tracing, training

Suite = Callable[[Bench], tuple[str, list[Sample]]]
QUICK: dict[str, Suite] = {
    "startup": startup.startup,
    "startup_torch": startup.startup_torch,
    "first_record": startup.first_record,
    "help": startup.help_,
    "training": training.training,
    "backward": training.backward,
    "log": training.log,
    "points": steps.points,
    "step_toy": steps.step_toy,
    "captures": captures.captures,
}
HEAVY: dict[str, Suite] = {
    "step_cnn": steps.step_cnn,
    "step_transformer": steps.step_transformer,
    "million": steps.million,
    "hash_big": hashing.hash_big,
    "hash_small": hashing.hash_small,
    "recheck": hashing.recheck,
    "recheck_many": hashing.recheck_many,
    "trace_files": tracing.trace_files,
    "trace_loader": tracing.trace_loader,
    "code_tree": codetree.code_tree,
}
SUITES = QUICK | HEAVY


def main() -> None:
    """Run the suites that were asked for, and print each table as soon as it is there."""
    arguments = _arguments()
    out = ROOT / "build" / "bench"
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="repro-bench-", dir=arguments.scratch) as everything:
        for name in arguments.suites or QUICK:
            with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=everything) as scratch:
                bench = Bench(
                    scratch=Path(scratch),
                    home=Path(everything, "home"),
                    rounds=arguments.rounds,
                    epochs=arguments.epochs,
                    scale=arguments.scale,
                    drop_caches=arguments.drop_caches,
                )
                _run(name, bench, out)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    listed = f"quick: {' '.join(QUICK)}; heavy, only when named: {' '.join(HEAVY)}"
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=listed)
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds; one more warms up")
    parser.add_argument("--epochs", type=int, default=40, help="length of the long training; 40 take about 20 s")
    parser.add_argument("--scale", type=float, default=1.0, help="part of the full size for suites that work on files")
    parser.add_argument("--drop-caches", action="store_true", help="cold: drop all of the machine's caches (root)")
    parser.add_argument("--scratch", type=Path, help="where to work; the heavy suites need 15 GB there")
    arguments = parser.parse_args()
    if unknown := set(arguments.suites) - set(SUITES):
        parser.error(f"unknown suite: {', '.join(sorted(unknown))}")
    return arguments


def _run(name: str, bench: Bench, out: Path) -> None:
    where = measure.machine()
    started = time.monotonic()
    text, samples = SUITES[name](bench)
    where["load_after"] = f"{os.getloadavg()[0]:.1f}"
    where["took_seconds"] = f"{time.monotonic() - started:.0f}"
    said = ", ".join(f"{key} {value}" for key, value in where.items())
    print(f"\n## {name}\n\n{inspect.getdoc(SUITES[name])}\n\n{text}\n\n{said}", flush=True)
    document = {"machine": where, "samples": [dataclasses.asdict(sample) for sample in samples]}
    (out / f"{name}.json").write_text(json.dumps(document, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
