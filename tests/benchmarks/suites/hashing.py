"""What it costs to know what the data were: hashing files, and finding that they are as they were."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import corpus
import measure
import peers
from measure import Command, Sample
from rig import REPRO, WORKLOADS, Bench

BIG_BYTES = 2 * 1024**3
SMALL_FILES, SMALL_BYTES = 10_000, 20 * 1024
MANY_FILES, MANY_BYTES = 100_000, 1024
_RACY_SECONDS = 3.0
"""A file younger than this cannot be told from one that changes while it is looked at."""


def hash_big(bench: Bench) -> tuple[str, list[Sample]]:
    """Hashing one file of 2 GiB, as whole processes; `inside` is the function alone. 3 minutes for 3 rounds."""
    return _hash(bench, corpus.big(bench.scratch / "big.bin", int(BIG_BYTES * bench.scale)))


def hash_small(bench: Bench) -> tuple[str, list[Sample]]:
    """Hashing 10,000 files of 20 KiB, as whole processes; `inside` is the function alone. A minute for 3 rounds."""
    return _hash(bench, corpus.small(bench.scratch / "files", int(SMALL_FILES * bench.scale), SMALL_BYTES))


def _hash(bench: Bench, target: Path) -> tuple[str, list[Sample]]:
    """Time all tools on a file or a folder, first with its pages in memory, then without."""
    text, kept = [], []
    for state in ("warm", "cold"):

        def prepare(_: Path, state: str = state) -> None:
            corpus.warm(target) if state == "warm" else corpus.cool(target, everything=bench.drop_caches)

        samples = bench.rounds_of(list(_hashers(bench, target, prepare)), warm_up=False)
        if dvc := _dvc_add(bench, target, cold=state == "cold"):
            samples += measure.run_rounds([dvc], 1, bench.new_folder(), print_nothing, warm_up=False)
        text.append(f"{state}:\n\n{measure.beside(samples, 'sha256sum')}")
        kept += [dataclasses.replace(sample, name=f"{sample.name}, {state}") for sample in samples]
    return "\n\n".join(text), kept


def print_nothing(message: str) -> None:
    """Keep quiet."""


def _hashers(bench: Bench, target: Path, prepare: Callable[[Path], None]) -> Iterable[Command]:
    def each(*argv: str) -> tuple[str, ...]:
        """Run a command line over the target's files."""
        if target.is_file():
            return (*argv, str(target))
        return ("sh", "-c", f"find {target} -type f -print0 | xargs -0 {' '.join(argv)}")

    for name, argv in (("cat", ("cat",)), ("sha256sum", ("sha256sum",)), ("openssl", ("openssl", "dgst", "-sha256"))):
        line = ("sh", "-c", 'exec "$@" >/dev/null', "sh", *each(*argv))
        yield bench.command(name, *line, prepare=prepare)
    if shutil.which("b3sum"):
        yield bench.command("b3sum", *each("b3sum"), prepare=prepare)
    for algorithm in ("sha256", "blake3"):
        ours = (sys.executable, WORKLOADS / "hash_files.py", algorithm, target)
        yield bench.command(f"repro {algorithm}", *ours, prepare=prepare)
        if python := peers.program("modelsigning", "python"):
            theirs = (python, WORKLOADS / "under_modelsigning.py", algorithm, target)
            yield bench.command(f"model-signing {algorithm}", *theirs, prepare=prepare)


def _dvc_add(bench: Bench, target: Path, *, cold: bool) -> Command | None:
    """Return `dvc add` of a copy of the target, in a repository of its own; it keeps a second copy."""
    if not (dvc := peers.program("dvc", "dvc")):
        return None

    def prepare(folder: Path) -> None:
        peers.dvc_repository(folder, bench.quiet)
        subprocess.run(["cp", "-r", "--reflink=auto", target, folder / target.name], check=True)
        corpus.cool(folder / target.name, everything=bench.drop_caches) if cold else corpus.warm(folder / target.name)

    return bench.command("dvc add (once)", dvc, "add", "-q", target.name, prepare=prepare)


def recheck(bench: Bench) -> tuple[str, list[Sample]]:
    """Finding 10,000 files of 20 KiB unchanged; `inside` is without starting up. Two minutes for 3 rounds."""
    return _recheck(bench, int(SMALL_FILES * bench.scale), SMALL_BYTES)


def recheck_many(bench: Bench) -> tuple[str, list[Sample]]:
    """Finding 100,000 files of 1 KiB unchanged; `inside` is without starting up. Four minutes for 3 rounds."""
    return _recheck(bench, int(MANY_FILES * bench.scale), MANY_BYTES)


def _recheck(bench: Bench, count: int, size_bytes: int) -> tuple[str, list[Sample]]:
    bench.prime()
    target, cache = corpus.small(bench.scratch / "files", count, size_bytes), bench.scratch / "cache"
    looked = bench.command("look at each", sys.executable, WORKLOADS / "stat_files.py", target)
    known = bench.command("repro", sys.executable, WORKLOADS / "recheck_files.py", target, cache)
    nothing = (REPRO, "record", "--", sys.executable, "-c", "")
    recorded = bench.command("repro record, no data", *nothing)
    declared = bench.command("repro record --data", *nothing[:2], "--data", target, *nothing[2:])
    commands = [looked, known, recorded, declared, *_repositories(bench, target)]
    time.sleep(_RACY_SECONDS)
    samples = bench.rounds_of(commands)  # the round that warms up fills the caches
    if wrong := [sample for sample in measure.of(samples, "repro") if "unknown: 0\n" not in sample.stdout]:
        raise measure.CommandFailedError(f"files that had not changed were not known: {wrong[0].stdout}")
    return measure.beside(samples, looked.name), samples


def _repositories(bench: Bench, target: Path) -> Iterable[Command]:
    """Return the same question to git and DVC, of copies that were added."""
    repository = bench.new_folder()
    shutil.copytree(target, repository / target.name)
    peers.git_repository(repository, bench.quiet)
    yield bench.command("git status", "git", "-C", repository, "status", "--short")
    if dvc := peers.program("dvc", "dvc"):
        taken = bench.new_folder()
        peers.dvc_repository(taken, bench.quiet)
        shutil.copytree(target, taken / target.name)
        subprocess.run([dvc, "add", "-q", target.name], cwd=taken, env=bench.quiet, check=True)
        yield bench.command("dvc status", dvc, "--cd", taken, "status")
