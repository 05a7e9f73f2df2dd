"""How long each capture takes: what delays the command, what goes on beside it, what the user waits for afterwards."""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import measure
import peers
from measure import Sample
from rig import DIGITS, WORKLOADS, Bench

_LINE = re.compile(r"^((?:before|beside|after|recorder) .+): ([\d.]+)$", re.MULTILINE)


def captures(bench: Bench) -> tuple[str, list[Sample]]:
    """Every part of a recording of examples/digits, two epochs, in a git repository of its own; about a minute."""
    data = bench.scratch / "digits"
    subprocess.run([sys.executable, DIGITS / "prepare.py", "--out", data], check=True, stdout=sys.stderr)

    def prepare(folder: Path) -> None:
        for name in ("digits.py", "train.py"):
            shutil.copy(DIGITS / name, folder)
        folder.joinpath(".gitignore").write_text("data\n", encoding="utf-8")
        peers.git_repository(folder, bench.quiet)
        shutil.copytree(data, folder / "data")

    timed = (sys.executable, WORKLOADS / "record_timed.py", sys.executable, "train.py", "--epochs", "2")
    samples = bench.rounds_of([bench.command("repro record", *timed, prepare=prepare)])
    parts: dict[str, list[float]] = {}
    for sample in samples:
        for label, seconds in _LINE.findall(sample.stdout):
            parts.setdefault(label, []).append(1e3 * float(seconds))
    start = [name for name in parts if name.startswith("before ")]
    whole = [sum(parts[name][number] for name in start) for number in range(len(samples))]
    rows = [[name, measure.spread(values, 1)] for name, values in parts.items()]
    rows.sort(key=lambda row: (row[0].split()[0], -statistics.median(parts[row[0]])))
    rows.append(["**all captures before the command**", measure.spread(whole, 1)])
    return measure.table(("part", "ms"), rows), samples
