"""Measure what `repro` costs, beside bare commands and, where they are installed, beside its peers.

    python tests/benchmarks/bench.py                          all suites, in under ten minutes on two cores
    python tests/benchmarks/bench.py startup help --rounds 9  only those, more often
    PEERS=/path/to/environments python tests/benchmarks/bench.py startup

Markdown goes to standard output, the samples to build/bench/SUITE.json. Nothing here passes or fails: a time depends on
the machine and on what else it is doing, which is why each table says the load.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import measure
import peers
from measure import Command, Sample

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORKLOADS = HERE / "workloads"
DIGITS = ROOT / "examples" / "digits"
REPRO = Path(sysconfig.get_path("scripts")) / "repro"
SHORT_EPOCHS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What every suite is given."""

    scratch: Path
    rounds: int
    epochs: int

    @property
    def environment(self) -> dict[str, str]:
        """Return a clean environment; the store, with its key and its locks, is kept from round to round."""
        kept = {name: value for name, value in os.environ.items() if name.startswith(("LANG", "LC_", "PIP_", "SSL_"))}
        scripts = str(REPRO.parent)
        return kept | {
            "HOME": str(self.scratch),
            "PATH": f"{scripts}:{os.environ['PATH']}",
            "REPRO_HOME": str(self.scratch / "home"),
        }

    def rounds_of(self, commands: Sequence[Command]) -> list[Sample]:
        """Time commands against one another."""
        return measure.run_rounds(commands, self.rounds, self.new_folder(), progress)

    def new_folder(self) -> Path:
        """Return an empty folder of its own."""
        return Path(tempfile.mkdtemp(dir=self.scratch))

    def bare_and_recorded(self, name: str, *argv: str, prepare: Callable[[Path], None]) -> list[Command]:
        """Return one Python command, as it is and under `repro record`."""
        command = (sys.executable, *argv)
        return [
            Command(name=prefix + name, argv=(*wrapper, *command), environment=self.environment, prepare=prepare)
            for prefix, wrapper in (("", ()), ("repro record ", (str(REPRO), "record", "--")))
        ]


def progress(message: str) -> None:
    """Say on standard error what is being timed."""
    print(message, file=sys.stderr, flush=True)


def copy_workloads(folder: Path) -> None:
    """Put the small scripts into a fresh folder."""
    shutil.copytree(WORKLOADS, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))


def startup(bench: Bench) -> tuple[str, list[Sample]]:
    """What recording adds to a script that does nothing; with peers beside it where they are installed."""
    commands = bench.bare_and_recorded("trivial.py", "trivial.py", prepare=copy_workloads)
    others = peers.commands(sys.executable, bench.environment, copy_workloads)
    samples = bench.rounds_of([*commands, *others])
    return measure.over_baseline(samples, commands[0].name, [each.name for each in (*commands[1:], *others)]), samples


def startup_torch(bench: Bench) -> tuple[str, list[Sample]]:
    """What recording adds to a script that imports PyTorch and goes."""
    bare, recorded = bench.bare_and_recorded("imports_torch.py", "imports_torch.py", prepare=copy_workloads)
    samples = bench.rounds_of([bare, recorded])
    return measure.over_baseline(samples, bare.name, [recorded.name]), samples


def first_record(bench: Bench) -> tuple[str, list[Sample]]:
    """The first record on a machine makes the key and resolves the environment's lock; later ones find both."""
    bare, recorded = bench.bare_and_recorded("trivial.py", "trivial.py", prepare=copy_workloads)
    fresh = {**bench.environment, "REPRO_HOME": str(bench.scratch / "fresh-home")}

    def forget(folder: Path) -> None:
        shutil.rmtree(bench.scratch / "fresh-home", ignore_errors=True)
        copy_workloads(folder)

    first = dataclasses.replace(recorded, name="first repro record", environment=fresh, prepare=forget)
    samples = measure.run_rounds([bare, first], 1, bench.new_folder(), progress, warm_up=False)
    return measure.over_baseline(samples, bare.name, [first.name]), samples


def help_(bench: Bench) -> tuple[str, list[Sample]]:
    """How soon `repro --help` answers, beside the least typer application and an empty interpreter."""
    hello = Command(
        name="typer hello --help",
        argv=(sys.executable, "hello_typer.py", "--help"),
        environment=bench.environment,
        prepare=copy_workloads,
    )
    empty = dataclasses.replace(hello, name="python -c pass", argv=(sys.executable, "-c", "pass"))
    ours = dataclasses.replace(hello, name="repro --help", argv=(str(REPRO), "--help"))
    samples = measure.run_rounds([hello, empty, ours], 2 * bench.rounds, bench.new_folder(), progress)
    return measure.over_baseline(samples, hello.name, [empty.name, ours.name]), samples


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

    manifest = max((bench.scratch / "home" / "runs").glob("*/manifest.duckdb"), key=lambda path: path.stat().st_mtime)
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


SUITES = {
    "startup": startup,
    "startup_torch": startup_torch,
    "first_record": first_record,
    "help": help_,
    "training": training,
    "backward": backward,
    "log": log,
}


def main() -> None:
    """Run the suites that were asked for, and print each table as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"any of: {' '.join(SUITES)}")
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds; one more warms up")
    parser.add_argument("--epochs", type=int, default=40, help="length of the long training; 40 take about 20 s")
    arguments = parser.parse_args()
    if unknown := set(arguments.suites) - set(SUITES):
        parser.error(f"unknown suite: {', '.join(sorted(unknown))}")
    out = ROOT / "build" / "bench"
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="repro-bench-") as scratch:
        bench = Bench(scratch=Path(scratch), rounds=arguments.rounds, epochs=arguments.epochs)
        for name in arguments.suites or SUITES:
            where = measure.machine()
            text, samples = SUITES[name](bench)
            said = ", ".join(f"{key} {value}" for key, value in where.items())
            print(f"\n## {name}\n\n{SUITES[name].__doc__}\n\n{text}\n\n{said}", flush=True)
            document = {"machine": where, "samples": [dataclasses.asdict(sample) for sample in samples]}
            (out / f"{name}.json").write_text(json.dumps(document, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
