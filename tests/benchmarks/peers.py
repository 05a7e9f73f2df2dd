"""Other trackers, each by its ordinary documented call, beside `repro record` in the same rounds.

`$PEERS` names a folder of virtual environments, one per peer: `$PEERS/sacred`, `$PEERS/datalad`, … Those that are there
take part. A tracker that is called from the script runs `workloads/under_NAME.py`, which calls the same `train` as the
bare script; one that wraps a command wraps the bare script itself. Making a repository is not timed, and nobody phones
home.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from measure import Command

IN_SCRIPT = ("mlflow", "sacred", "wandb")
QUIET = {
    "DO_NOT_TRACK": "1",
    "GIT_AUTHOR_EMAIL": "bench@example.org",
    "GIT_AUTHOR_NAME": "bench",
    "GIT_COMMITTER_EMAIL": "bench@example.org",
    "GIT_COMMITTER_NAME": "bench",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "REPROZIP_USAGE_STATS": "off",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
}


def program(name: str, program: str) -> Path | None:
    """Return a peer's program, if `$PEERS` has it."""
    path = Path(os.environ.get("PEERS") or "/nonexistent", name, "bin", program)
    return path if path.exists() else None


def commands(python: str, environment: Mapping[str, str], prepare: Callable[[Path], None]) -> list[Command]:
    """Return a command for each peer whose environment stands in `$PEERS`; none where that is not set."""
    if not os.environ.get("PEERS"):
        return []
    folder = Path(os.environ["PEERS"])
    quiet = {**environment, **QUIET}
    found = [
        Command(
            name=name,
            argv=(str(folder / name / "bin" / "python"), f"under_{name}.py"),
            environment=quiet,
            prepare=prepare,
        )
        for name in IN_SCRIPT
    ]
    found.append(_reprozip(folder, python, quiet, prepare))
    if shutil.which("git-annex"):  # without it DataLad makes no repository
        found.append(_datalad(folder, python, quiet, prepare))
    return [command for command in found if Path(command.argv[0]).exists()]


def _reprozip(folder: Path, python: str, quiet: Mapping[str, str], prepare: Callable[[Path], None]) -> Command:
    argv = (str(folder / "reprozip/bin/reprozip"), "trace", "--dir", "trace", python, "trivial.py")
    return Command(name="reprozip", argv=argv, environment=quiet, prepare=prepare)


def _datalad(folder: Path, python: str, quiet: Mapping[str, str], prepare: Callable[[Path], None]) -> Command:
    binaries = folder / "datalad/bin"
    environment = {**quiet, "PATH": f"{binaries}:{quiet['PATH']}"}

    dataset = datalad_dataset(binaries / "datalad", environment)

    def prepare_dataset(work: Path) -> None:
        prepare(work)
        dataset(work)

    argv = (str(binaries / "datalad"), "run", "-m", "train", f"{python} trivial.py")
    return Command(name="datalad", argv=argv, environment=environment, prepare=prepare_dataset)


def git_repository(folder: Path, environment: Mapping[str, str]) -> None:
    """Make a git repository of all that lies in a folder."""
    for argv in (["init", "-q"], ["add", "-A"], ["commit", "-q", "--allow-empty", "-m", "Start"]):
        subprocess.run(["git", *argv], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)


def dvc_repository(folder: Path, environment: Mapping[str, str]) -> None:
    """Make an empty git repository with DVC in it, which asks and tells nobody."""
    dvc = program("dvc", "dvc")
    git_repository(folder, environment)
    settings = [("core.analytics", "false"), ("core.check_update", "false"), ("core.site_cache_dir", folder / ".site")]
    for argv in (["init", "-q"], *(["config", name, value] for name, value in settings)):
        subprocess.run([dvc, *argv], cwd=folder, env=environment, check=True)


def datalad_dataset(datalad: Path, environment: Mapping[str, str]) -> Callable[[Path], None]:
    """Return what makes a folder a DataLad dataset."""

    def prepare(folder: Path) -> None:
        for argv in (["create", "--force", "-c", "text2git", "."], ["save", "-m", "start"]):
            subprocess.run([datalad, *argv], cwd=folder, env=environment, check=True, capture_output=True)

    return prepare
