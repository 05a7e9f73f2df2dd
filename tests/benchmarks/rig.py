"""What every suite is given, and the ways in which commands are put beside one another."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Mapping, Sequence
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What every suite is given."""

    scratch: Path
    """Empty at the start of a suite."""
    home: Path
    """The store, with its key and its locks; kept from suite to suite."""
    rounds: int
    epochs: int
    scale: float = 1.0
    """Part of the full size that file suites work on: 0.1 is a rehearsal."""
    drop_caches: bool = False
    """Before what is timed cold, drop the whole machine's caches (root), not only the pages of the files read."""

    @property
    def environment(self) -> dict[str, str]:
        """Return a clean environment."""
        kept = {name: value for name, value in os.environ.items() if name.startswith(("LANG", "LC_", "PIP_", "SSL_"))}
        scripts = str(REPRO.parent)
        return kept | {
            "HOME": str(self.scratch),
            "PATH": f"{scripts}:{os.environ['PATH']}",
            "REPRO_HOME": str(self.home),
        }

    @property
    def quiet(self) -> dict[str, str]:
        """Return the environment for peers: nobody phones home or waits for a network."""
        return self.environment | peers.QUIET

    def prime(self) -> None:
        """Record once, so that key and lock are there: only `first_record` measures how long the index takes."""
        argv = [REPRO, "record", "--", sys.executable, "-c", ""]
        subprocess.run(argv, cwd=self.new_folder(), env=self.environment, check=True, stdout=sys.stderr)

    def rounds_of(self, commands: Sequence[Command], *, warm_up: bool = True) -> list[Sample]:
        """Time commands against one another."""
        return measure.run_rounds(commands, self.rounds, self.new_folder(), progress, warm_up=warm_up)

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

    def command(
        self,
        name: str,
        *argv: str | Path,
        prepare: Callable[[Path], None] | None = None,
        add: Mapping[str, str] | None = None,
        may_fail: bool = False,
    ) -> Command:
        """Return one command in the environment for peers, with variables added."""
        environment = self.quiet | dict(add or {})
        line = tuple(map(str, argv))
        return Command(name=name, argv=line, environment=environment, prepare=prepare, may_fail=may_fail)


def newest_manifest(home: Path) -> Path:
    """Return the manifest of the run that was recorded last."""
    return max((home / "runs").glob("*/manifest.duckdb"), key=lambda path: path.stat().st_mtime)


def progress(message: str) -> None:
    """Say on standard error what is being timed."""
    print(message, file=sys.stderr, flush=True)


def said(sample: Sample, word: str) -> float | None:
    """Return the number that a workload printed as `word: NUMBER`, if it did."""
    found = re.search(rf"^{word}: ([\d.]+)", sample.stdout, re.MULTILINE)
    return float(found[1]) if found else None
