"""What it costs to see every file that a run reads, beside what others pay for as much or less."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import corpus
import measure
import peers
from measure import Command, Sample
from rig import REPRO, WORKLOADS, Bench, newest_manifest, said

FILES, FILE_BYTES = 10_000, 20 * 1024
BARE = "bare"
_SYSTEM_CALLS = "trace=open,openat,openat2,creat,execve,execveat,rename,renameat,renameat2,unlink,unlinkat,link,linkat"


def trace_files(bench: Bench) -> tuple[str, list[Sample]]:
    """A loop that reads 10,000 files of 20 KiB; `loop` is the script's own time. Four minutes for 3 rounds."""
    return _trace(bench, "read_files.py")


def trace_loader(bench: Bench) -> tuple[str, list[Sample]]:
    """PyTorch's DataLoader, two workers, over 10,000 files of 20 KiB; `loop` is its own time. Six minutes for 3."""
    return _trace(bench, "load_files.py", "2")


def _trace(bench: Bench, script: str, *options: str) -> tuple[str, list[Sample]]:
    bench.prime()
    target = corpus.small(bench.scratch / "files", int(FILES * bench.scale), FILE_BYTES)
    bare = (sys.executable, str(WORKLOADS / script), str(target), *options)
    others = [dataclasses.replace(command, may_fail=True) for command in _others(bench, bare, target)]
    commands = [*_ours(bench, bare), *others]
    samples = bench.rounds_of(commands)
    failed = [command.name for command in commands if not measure.of(samples, command.name)]
    notes = [_layer(samples), _listed(bench, bare), *(f"It failed, and was left out: {name}." for name in failed)]
    return f"{_over(samples)}\n\n{' '.join(notes)}", samples


def _ours(bench: Bench, bare: Sequence[str]) -> Iterable[Command]:
    yield bench.command(BARE, *bare)
    yield bench.command("kernel layer alone", sys.executable, WORKLOADS / "watch_only.py", *bare)
    yield bench.command("repro record", REPRO, "record", "--", *bare)
    yield bench.command("repro record --no-trace", REPRO, "record", "--no-trace", "--", *bare)

    def forget(_: Path) -> None:
        shutil.rmtree(bench.home / "cache" / "stat", ignore_errors=True)

    yield bench.command("repro record, digests not cached", REPRO, "record", "--", *bare, prepare=forget)


def _others(bench: Bench, bare: Sequence[str], target: Path) -> Iterable[Command]:
    if shutil.which("strace"):
        strace = ("strace", "-f", "-qq", "--seccomp-bpf", "-y", "-e", _SYSTEM_CALLS, "-o", "trace.txt")
        yield bench.command("strace --seccomp-bpf", *strace, *bare)
    if reprozip := peers.program("reprozip", "reprozip"):
        trace = (reprozip, "trace", "-d", "trace")
        alone = ("--dont-identify-packages", "--dont-find-inputs-outputs")
        yield bench.command("reprozip trace", *trace, *bare)
        yield bench.command("reprozip trace, nothing identified", *trace, *alone, *bare)
    if (datalad := peers.program("datalad", "datalad")) and shutil.which("git-annex"):
        path = {"PATH": f"{datalad.parent}:{bench.environment['PATH']}"}
        dataset = peers.datalad_dataset(datalad, bench.quiet | path)
        run = (datalad, "run", "-m", "read", " ".join(bare))
        yield bench.command("datalad run (sees no file)", *run, prepare=dataset, add=path)
    if dvc := peers.program("dvc", "dvc"):

        def stage(folder: Path) -> None:
            peers.dvc_repository(folder, bench.quiet)
            folder.joinpath("dvc.yaml").write_text(
                f"stages:\n  read:\n    cmd: {' '.join(bare)}\n    deps:\n      - {target}\n", encoding="utf-8"
            )

        yield bench.command("dvc repro (hashes what is declared)", dvc, "repro", "-q", prepare=stage)


def _over(samples: Sequence[Sample]) -> str:
    """Write what each adds to the bare script in its round: to the whole, and to the script's loop."""
    rows = []
    for name in dict.fromkeys(sample.name for sample in samples):
        pairs = measure.paired(samples, name, BARE)
        loops = [(said(own, "seconds"), said(base, "seconds")) for own, base in pairs]
        extra = [own - base for own, base in loops if own is not None and base is not None]
        row = [
            name,
            measure.spread((own.wall_seconds for own, _ in pairs), 2),
            measure.spread((own.wall_seconds - base.wall_seconds for own, base in pairs), 2),
            measure.spread((own.cpu_seconds - base.cpu_seconds for own, base in pairs), 2),
            measure.spread(extra, 2) if extra else "",
        ]
        rows.append((min(own.wall_seconds for own, _ in pairs), row))
    rows.sort(key=lambda row: row[0])
    header = ("command", "wall s", "wall over bare, s", "CPU over bare, s", "loop over bare, s")
    return measure.table(header, (row for _, row in rows))


def _layer(samples: Sequence[Sample]) -> str:
    """Say which kernel layer was at work, so that a table of a machine without one cannot mislead."""
    found = {line for sample in samples for line in sample.stdout.splitlines() if line.startswith("layer: ")}
    return f"The kernel layer: {', '.join(sorted(line.removeprefix('layer: ') for line in found)) or 'not seen'}."


def _listed(bench: Bench, bare: Sequence[str]) -> str:
    """Record once more and say how many files came into the record: a fast tracer may be a blind one."""
    import duckdb

    recorded = (REPRO, "record", "--", *bare)
    subprocess.run(recorded, cwd=bench.new_folder(), env=bench.environment, check=True, capture_output=True)
    with duckdb.connect(str(newest_manifest(bench.home)), read_only=True) as connection:
        seen = connection.execute(
            "SELECT seen_by, count(*), count(digest) FROM data_file"
            " WHERE role = 'input' AND category = 'data' GROUP BY seen_by"
        ).fetchall()
    told = "; ".join(f"{files} by {layer}, {hashed} hashed" for layer, files, hashed in sorted(seen))
    return f"Data files in the record: {told or 'none'}."
