"""What it costs to keep a code tree byte for byte before the command starts, beside those who version trees."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import corpus
import measure
import peers
from measure import Command, Sample
from rig import WORKLOADS, Bench, progress, said

FILES, FILE_BYTES = 50_000, 40_000
_MOST_FOR_DATALAD = 10_000
"""It takes some 10 ms a file: ten minutes for the whole tree, so it takes part in rehearsals alone."""
_PARTS = ("before code", "beside code", "after code", "recorder seal")
_CAPTURED = ("objects", "runs", "cache/stat")


def code_tree(bench: Bench) -> tuple[str, list[Sample]]:
    """A git repository of 50,000 files, 2 GB; `inside` is the delay before the command. About 10 minutes for 3 rounds.

    Each first capture meets an empty store. Those who version trees get a copy of their own, once.
    """
    tree = bench.scratch / "tree"
    count = int(FILES * bench.scale)
    subprocess.run([sys.executable, WORKLOADS / "make_tree.py", tree, str(count), str(FILE_BYTES)], check=True)
    bench.prime()
    time.sleep(3)  # what was just written cannot be told from what is being written
    samples = bench.rounds_of(list(_recorded(bench, tree)), warm_up=False)
    for command in _versioned(bench, tree, count):
        samples += measure.run_rounds([command], 1, bench.new_folder(), progress, warm_up=False)
    return f"{measure.beside(samples, 'git status')}\n\n{_parts(samples)}", samples


def _parts(samples: Sequence[Sample]) -> str:
    """Write what each recording spent on the tree, in seconds: before the command, beside it, and after."""
    rows = []
    for name in dict.fromkeys(sample.name for sample in samples if sample.name.startswith("repro ")):
        own = measure.of(samples, name)
        cells = [[said(sample, part) for sample in own] for part in _PARTS]
        known = [[each for each in cell if each is not None] for cell in cells]
        rows.append([name, *(measure.spread(cell, 2) if cell else "" for cell in known)])
    return measure.table(("command", *(f"{part}, s" for part in _PARTS)), rows)


def _recorded(bench: Bench, tree: Path) -> Iterable[Command]:
    """Return first captures, into a store without objects, and later ones, into a store that has captured the tree."""
    timed = (sys.executable, WORKLOADS / "record_timed.py", "--cd", tree, sys.executable, "-c", "")
    fresh, known = (bench.scratch / name for name in ("fresh", "known"))
    for home in (fresh, known):
        shutil.copytree(bench.home, home)  # with the key and the lock

    def forget(_: Path) -> None:
        for name in _CAPTURED:
            shutil.rmtree(fresh / name, ignore_errors=True)

    def cool(_: Path) -> None:
        corpus.cool(tree, everything=bench.drop_caches)

    def forget_and_cool(folder: Path) -> None:
        forget(folder)
        cool(folder)

    progress("capturing the tree once, so that it is known")
    known_home = {"REPRO_HOME": str(known)}
    argv = [str(part) for part in timed]
    subprocess.run(argv, env=bench.environment | known_home, check=True, stdout=subprocess.DEVNULL)
    ways: tuple[tuple[str, Path, Callable[[Path], None] | None], ...] = (
        ("repro record, first, cold", fresh, forget_and_cool),
        ("repro record, first, warm", fresh, forget),
        ("repro record, unchanged, warm", known, None),
        ("repro record, unchanged, cold", known, cool),
    )
    for name, home, prepare in ways:
        yield bench.command(name, *timed, prepare=prepare, add={"REPRO_HOME": str(home)})
    yield bench.command("git status", "git", "-C", tree, "status", "--short")


def _versioned(bench: Bench, tree: Path, count: int) -> Iterable[Command]:
    def copy(folder: Path) -> None:
        (folder / "tree").mkdir()
        for path in tree.iterdir():
            if path.name != ".git":
                subprocess.run(["cp", "-r", path, folder / "tree"], check=True)

    def git(folder: Path) -> None:
        copy(folder)
        subprocess.run(["git", "init", "-q", "."], cwd=folder, check=True)

    def dvc(folder: Path) -> None:
        peers.dvc_repository(folder, bench.quiet)
        copy(folder)

    yield bench.command("git add -A; git commit", "sh", "-c", "git add -A && git commit -qm Start", prepare=git)
    if program := peers.program("dvc", "dvc"):
        yield bench.command("dvc add", program, "add", "-q", "tree", prepare=dvc)
    program = peers.program("datalad", "datalad")
    if program and shutil.which("git-annex") and count <= _MOST_FOR_DATALAD:
        path = {"PATH": f"{program.parent}:{bench.environment['PATH']}"}
        start = peers.datalad_dataset(program, bench.quiet | path)

        def datalad(folder: Path) -> None:
            start(folder)
            copy(folder)

        yield bench.command("datalad save", program, "save", "-m", "tree", prepare=datalad, add=path)
