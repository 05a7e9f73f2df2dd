"""The Pythons of this machine: which there are, and which one to rebuild a recorded environment with."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROBE: Final = """
import json, sys
print(json.dumps(["%d.%d.%d" % sys.version_info[:3], sys.implementation.name, sys.version, sys.base_prefix]))
"""
_PROBE_SECONDS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """A Python that runs on this machine."""

    executable: Path
    version: str
    implementation: str
    """`sys.implementation.name`, such as `cpython`."""
    build: str
    """`sys.version`."""
    base_prefix: str


def probe(executable: Path) -> Interpreter | None:
    """Ask a program whether it is a Python, and which; `None` if it does not answer as one."""
    try:
        done = subprocess.run(
            [executable, "-I", "-S", "-c", _PROBE],
            capture_output=True,
            timeout=_PROBE_SECONDS,
            check=True,
            stdin=subprocess.DEVNULL,
        )
        version, implementation, build, base_prefix = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return Interpreter(
        executable=executable, version=version, implementation=implementation, build=build, base_prefix=base_prefix
    )


def discover(version: str, base_prefix: str | None) -> tuple[Interpreter, ...]:
    """Return the interpreters here of the same minor version, the recorded one first, each once."""
    found: dict[str, Interpreter] = {}
    for path in _candidates(version, base_prefix):
        real = os.path.realpath(path)
        if real not in found and os.access(path, os.X_OK) and (interpreter := probe(path)) is not None:
            found[real] = interpreter
    wanted = _minor(version)
    return tuple(interpreter for interpreter in found.values() if _minor(interpreter.version) == wanted)


def choose(interpreters: Iterable[Interpreter], version: str, implementation: str) -> Interpreter | None:
    """Return the first interpreter of exactly this version, else the newest of the same minor version."""
    same = [i for i in interpreters if i.implementation.casefold() == implementation.casefold()]
    exact = [i for i in same if i.version == version]
    near = sorted(
        (i for i in same if _minor(i.version) == _minor(version)), key=lambda i: _numbers(i.version), reverse=True
    )
    return next(iter(exact or near), None)


def _candidates(version: str, base_prefix: str | None) -> Iterator[Path]:
    name = f"python{'.'.join(version.split('.')[:2])}"
    if base_prefix:
        yield Path(base_prefix) / "bin" / name
    yield from _managed(version)
    yield Path(sys.base_prefix) / "bin" / name
    if on_path := shutil.which(name):
        yield Path(on_path)
    yield from (Path(directory) / name for directory in ("/usr/local/bin", "/usr/bin"))


def _managed(version: str) -> Iterator[Path]:
    """Yield what pyenv and uv keep, the exact version before others of its minor version."""
    minor = ".".join(version.split(".")[:2])
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or data / "uv" / "python")
    exact = itertools.chain(sorted(pyenv.glob(version)), sorted(uv.glob(f"*-{version}-*")))
    near = itertools.chain(sorted(pyenv.glob(f"{minor}.*")), sorted(uv.glob(f"*-{minor}.*-*")))
    for home in itertools.chain(exact, near):
        yield home / "bin" / f"python{minor}"


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
