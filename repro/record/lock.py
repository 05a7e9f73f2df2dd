"""A hash-pinned lock of exactly the distributions that are installed, resolved by pip-tools at the package index.

An installed distribution does not know the hash of the file it came from, so the index has to be asked. That takes
seconds, so it is done beside the training at the lowest priority, and once per environment: the lock is kept by the
environment's fingerprint. It is complete, so it is installed with `pip install --no-deps --require-hashes -r`.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from repro.evidence.canonical import decode_path, storable
from repro.evidence.model import Gap, Package
from repro.record.capture import Patience
from repro.record.eventlog import Start

_MOST_RETRIES: Final = 8
_POLL_SECONDS: Final = 0.1
_OPTIONS: Final = (
    "compile", "-q", "--generate-hashes", "--no-annotate", "--no-header", "--no-emit-index-url", "--no-emit-find-links",
    "--no-emit-trusted-host", "--no-emit-options", "--strip-extras", "--allow-unsafe", "--no-config",
    "--resolver=backtracking",
)  # fmt: skip
_BORROWED: Final = """\
import os, runpy, sys
os.nice(19)
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv.pop(1))
runpy.run_module("piptools", run_name="__main__", alter_sys=True)
"""
_OWN: Final = """\
import os, runpy
os.nice(19)
runpy.run_module("piptools", run_name="__main__", alter_sys=True)
"""
_PIN: Final = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==(\S+)", re.MULTILINE)
_NOT_FOUND: Final = re.compile(r"(?:No matching distribution found for|satisfies the requirement) ([A-Za-z0-9._-]+)")
_ADDRESS: Final = re.compile(r"\S*://\S+|\(from [^)]*\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """What came of resolving: the lock's text, empty if there is none, and what is missing from it."""

    text: str
    gaps: tuple[Gap, ...]


class _ResolveError(Exception):
    """pip-tools failed; the text is all that it said."""


def resolve(
    interpreter: Start, packages: tuple[Package, ...], environment: Mapping[str, str], patience: Patience
) -> Lock:
    """Resolve the lock of an environment.

    A distribution that the index does not have gets a gap, and the rest is locked without it. An editable or direct one
    has no file at the index and gets a gap too.
    """
    gaps = [_not_at_index(package) for package in packages if package.origin in ("editable", "direct")]
    pins = {package.name: package.version for package in reversed(packages) if package.origin in ("index", "unknown")}
    for _ in range(_MOST_RETRIES):
        if not pins:
            return Lock(text="", gaps=tuple(gaps))
        try:
            return _checked(_compile(interpreter, pins, environment, patience), pins, gaps)
        except _ResolveError as error:
            missing = _missing(str(error), pins)
            gaps.append(Gap(topic="lock", subject=missing or "index", reason=f"not locked: {_last_line(str(error))}"))
            if missing is None:
                return Lock(text="", gaps=tuple(gaps))
            del pins[missing]
    gaps.append(
        Gap(topic="lock", subject="index", reason=f"more than {_MOST_RETRIES} distributions are not at the index")
    )
    return Lock(text="", gaps=tuple(gaps))


def _not_at_index(package: Package) -> Gap:
    what = "an editable install" if package.origin == "editable" else "installed from a file, a folder or a repository"
    return Gap(topic="lock", subject=package.name, reason=f"not locked: {package.version} is {what}, not from an index")


def _checked(text: str, pins: Mapping[str, str], gaps: list[Gap]) -> Lock:
    """Leave out what pip-tools added but is not installed, and name what it left out."""
    kept = [block for name, version, block in _blocks(text) if pins.get(name) == version]
    locked = {name for name, version, _ in _blocks(text) if pins.get(name) == version}
    reason = "not locked: pip-tools left it out"
    lost = [Gap(topic="lock", subject=name, reason=reason) for name in sorted(set(pins) - locked)]
    return Lock(text="".join(kept), gaps=(*gaps, *lost))


def _blocks(text: str) -> list[tuple[str, str, str]]:
    """Split a lock in its pins: normalised name, version, and the lines with the hashes."""
    starts = list(_PIN.finditer(text))
    ends = [found.start() for found in starts[1:]] + [len(text)]
    blocks = []
    for found, end in zip(starts, ends, strict=True):
        lines = [line for line in text[found.start() : end].splitlines() if line.strip() and not line.startswith("#")]
        version = found[2].partition(";")[0]
        blocks.append((re.sub(r"[-_.]+", "-", found[1]).lower(), version, "\n".join(lines) + "\n"))
    return blocks


def _compile(interpreter: Start, pins: Mapping[str, str], environment: Mapping[str, str], patience: Patience) -> str:
    """Run pip-tools, at the lowest priority.

    Raises:
        _ResolveError: It failed, or there was no more time.
    """
    with tempfile.TemporaryDirectory(prefix="repro-lock-") as folder:
        wanted, resolved, said = Path(folder) / "wanted.in", Path(folder) / "resolved.txt", Path(folder) / "said"
        wanted.write_text("".join(f"{name}=={version}\n" for name, version in sorted(pins.items())), encoding="utf-8")
        command = [*_piptools(interpreter), *_OPTIONS, "-o", str(resolved), str(wanted)]
        clean = {name: value for name, value in environment.items() if not name.startswith(("PYTHON", "REPRO_"))}
        with said.open("wb") as output:
            try:
                process = subprocess.Popen(
                    command,
                    cwd=folder,
                    env=clean,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    process_group=0,
                )
            except OSError as error:
                raise _ResolveError(f"{command[0]} could not be started: {error.strerror}") from error
            _wait(process, patience)
        if process.returncode != 0:
            raise _ResolveError(
                said.read_text(encoding="utf-8", errors="replace") or f"exit status {process.returncode}"
            )
        return resolved.read_text(encoding="utf-8")


def _piptools(interpreter: Start) -> list[str]:
    """Return how to start pip-tools so that it resolves for the recorded interpreter.

    The recorded environment need not have pip-tools, and must not get it: an interpreter of our version does, else the
    recorded one borrows ours, which is pure Python.
    """
    version = ".".join(interpreter.python_version.split(".")[:2])
    if (version, interpreter.implementation) == (
        f"{sys.version_info[0]}.{sys.version_info[1]}",
        sys.implementation.name,
    ):
        return [sys.executable, "-I", "-c", _OWN]
    executable = os.fsdecode(decode_path(interpreter.executable))
    return [executable, "-I", "-c", _BORROWED, sysconfig.get_path("purelib")]


def _wait(process: subprocess.Popen[bytes], patience: Patience) -> None:
    """Wait while there is patience, then end the whole process group.

    Raises:
        _ResolveError: There was no more patience.
    """
    try:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_SECONDS)
                return
            if patience.spent:
                raise _ResolveError("resolving took longer than the run could wait")
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _missing(said: str, pins: Mapping[str, str]) -> str | None:
    """Return the distribution that the index does not have."""
    names = [re.sub(r"[-_.]+", "-", name).lower() for name in _NOT_FOUND.findall(said)]
    return next((name for name in names if name in pins), None)


def _last_line(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith(("Traceback", " "))]
    last = next(
        (line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "no reason was given"
    )
    return storable(_ADDRESS.sub("…", last.removeprefix("ERROR: ")))[:300]
