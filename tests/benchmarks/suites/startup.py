"""What it costs to start: the script that does nothing, PyTorch's import, the first record, `--help`."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path

import measure
import peers
from measure import Command, Sample
from rig import REPRO, WORKLOADS, Bench, progress


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
