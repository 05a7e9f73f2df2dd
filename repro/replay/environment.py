"""Virtual environments built from a recorded lock, kept by digest in the store's cache.

A virtual environment cannot be moved, so it is built where it stays, under a file lock, and is complete once its marker
is written. The marker holds an inventory of the installed files: an environment touched since then is built anew.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from repro.errors import ExecutionError
from repro.evidence import canonical
from repro.evidence.objects import Objects
from repro.replay import keptwheels
from repro.replay.interpreters import Interpreter
from repro.replay.keptwheels import Split
from repro.replay.packages import pins

_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_MARKER: Final = ".complete"
_UNREACHABLE: Final = re.compile(
    r"Retrying \(|NewConnectionError|ConnectionError|name resolution|Could not fetch URL|ProxyError|timed out", re.I
)
_URL: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^\s'\")>,]+", re.I)
_NOT_FOR_PIP: Final = re.compile(r"REPRO_.*|PYTHON.*|VIRTUAL_ENV|PIP_REQUIRE_VIRTUALENV|PIP_USER|PIP_TARGET|PIP_PREFIX")
_NO_PLACES: Final = re.compile(r"REPRO_.*|PYTHON.*|VIRTUAL_ENV|PIP_(?!CACHE_DIR|NO_CACHE_DIR).*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A virtual environment in use: nobody rebuilds it until it is closed."""

    prefix: Path
    python: Path
    reused: bool
    built_from_source: tuple[str, ...]
    """Distributions that had no wheel, so that their bits depend on the compiler of this machine."""
    hold: int
    """Descriptor of the file lock."""

    def close(self) -> None:
        """Let others rebuild it."""
        os.close(self.hold)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def build(
    lock: bytes,
    interpreter: Interpreter,
    cache: Path,
    *,
    progress: Callable[[str], None],
    objects: Objects | None = None,
) -> Built:
    """Return the virtual environment of a lock, from the cache or built now.

    Args:
        lock: A requirements file that pins each distribution by version and hashes.
        interpreter: What to build it with.
        cache: Where environments are kept; may be dropped when none is in use.
        progress: Called with what is going on.
        objects: Where the wheels lie that the lock names as kept: these are installed without an index.

    Raises:
        ExecutionError: The environment could not be built; the message ends with what pip said last.
    """
    key = _key(lock, interpreter)
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        hold = _lock(cache / f"{key}.lock", progress)
    except OSError as error:
        raise ExecutionError(f"cannot keep environments in {cache}: {error.strerror}") from error
    try:
        prefix = cache / key
        marker = _read_marker(prefix)
        reused = marker is not None
        if marker is None:
            marker = _build_anew(prefix, lock, interpreter, objects, progress)
        _flock(hold, fcntl.LOCK_SH)
    except BaseException:
        os.close(hold)
        raise
    sources = tuple(str(name) for name in marker["built_from_source"])
    return Built(prefix=prefix, python=_python(prefix), reused=reused, built_from_source=sources, hold=hold)


def _key(lock: bytes, interpreter: Interpreter) -> str:
    parts = [
        canonical.digest(lock),
        interpreter.implementation,
        interpreter.build,
        os.path.realpath(interpreter.executable),
        sysconfig.get_platform(),
    ]
    return canonical.digest(canonical.dumps(parts)).removeprefix("sha256:")[:24]


def _python(prefix: Path) -> Path:
    return prefix / "bin" / "python"


def _lock(path: Path, progress: Callable[[str], None]) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        progress("waiting for another replay that uses the same environment")
        _flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def _flock(descriptor: int, operation: int) -> None:
    """Lock a file; without a lock where the file system has none: two replays at once then may both build."""
    try:
        fcntl.flock(descriptor, operation)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def _read_marker(prefix: Path) -> dict[str, list[str] | str] | None:
    """Return the marker of a complete and untouched environment."""
    try:
        marker: dict[str, list[str] | str] = json.loads((prefix / _MARKER).read_bytes())
    except (OSError, ValueError):
        return None
    intact = marker.get("inventory") == _inventory(prefix) and os.access(_python(prefix), os.X_OK)
    return marker if intact else None


def _inventory(prefix: Path) -> str:
    """Return a digest over path, size and time of every file but compiled code, which Python writes as it likes."""
    rows = sorted(f"{path}\0{size}\0{modified}" for path, size, modified in _files(os.fspath(prefix)))
    return canonical.digest("\n".join(rows).encode("utf-8", "surrogateescape"))


def _files(directory: str) -> Iterator[tuple[str, int, int]]:
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.name != "__pycache__":
                    yield from _files(entry.path)
            elif entry.name != _MARKER:
                status = entry.stat(follow_symlinks=False)
                yield entry.path, status.st_size, status.st_mtime_ns


def _build_anew(
    prefix: Path, lock: bytes, interpreter: Interpreter, objects: Objects | None, progress: Callable[[str], None]
) -> dict[str, list[str] | str]:
    _remove(prefix)
    try:
        _make(prefix, interpreter, progress)
        sources = _install(prefix, lock, objects, progress)
    except BaseException:
        _remove(prefix)
        raise
    marker: dict[str, list[str] | str] = {"inventory": _inventory(prefix), "built_from_source": sources}
    (prefix / _MARKER).write_text(json.dumps(marker))
    return marker


def _remove(prefix: Path) -> None:
    if prefix.exists():
        (prefix / _MARKER).unlink(missing_ok=True)
        shutil.rmtree(prefix, ignore_errors=True)


def _make(prefix: Path, interpreter: Interpreter, progress: Callable[[str], None]) -> None:
    progress(f"making a virtual environment with {interpreter.executable} ({interpreter.version})")
    command = [os.fspath(interpreter.executable), "-I", "-m", "venv", "--without-pip", os.fspath(prefix)]
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        last = _last_lines((done.stderr or done.stdout).splitlines())
        raise ExecutionError(
            f"{interpreter.executable} could not make a virtual environment: {last}",
            hint="install its venv module, or name another interpreter with --python",
        )


def _install(prefix: Path, lock: bytes, objects: Objects | None, progress: Callable[[str], None]) -> list[str]:
    """Install exactly the lock, with our pip, so that the environment holds nothing else; return what had no wheel."""
    text = lock.decode("utf-8", "replace")
    names = sorted(pins(text))
    if not names:
        return []
    shown = ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
    progress(f"installing {len(names)} distributions from the lock: {shown}")
    folder = prefix / "wheels"
    parts = Split(kept="", rest=text) if objects is None else keptwheels.split(text, objects, folder)
    if parts.kept:
        progress(f"{len(pins(parts.kept))} of them from kept wheels, without an index")
        _run_pip(prefix, parts.kept, ("--no-index", "--find-links", os.fspath(folder)), progress)
        shutil.rmtree(folder)
    return _run_pip(prefix, parts.rest, (), progress) if pins(parts.rest) else []


def _run_pip(prefix: Path, lock: str, places: tuple[str, ...], progress: Callable[[str], None]) -> list[str]:
    requirements = prefix / "lock.txt"
    requirements.write_bytes(lock.encode("utf-8", "surrogateescape"))
    command = [
        *(sys.executable, "-P", "-m", "pip", "--python", os.fspath(_python(prefix)), "install"),
        *("--no-deps", "--require-hashes", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"),
        *("--no-warn-script-location", "--root-user-action", "ignore", *places, "-r", os.fspath(requirements)),
    ]
    sources: list[str] = []
    tail: deque[str] = deque(maxlen=400)
    with _pip(command, prefix, offline=bool(places)) as process:
        for line in process.stdout or ():
            tail.append(line.rstrip())
            _follow(line, sources, progress)
    if process.returncode:
        raise _pip_failed(list(tail))
    return sources


@contextmanager
def _pip(command: list[str], prefix: Path, *, offline: bool) -> Iterator[subprocess.Popen[str]]:
    """Start pip, with its own configuration unless it is to look nowhere else; it ends with us."""
    unwanted = _NO_PLACES if offline else _NOT_FOR_PIP
    environment = {name: value for name, value in os.environ.items() if not unwanted.fullmatch(name)}
    if offline:
        environment["PIP_CONFIG_FILE"] = os.devnull
    process = subprocess.Popen(
        command,
        cwd=prefix,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    try:
        with process:
            yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _follow(line: str, sources: list[str], progress: Callable[[str], None]) -> None:
    if found := re.match(r"\s*Building wheel for (\S+) \(.*\): (?:started|finished)", line):
        if found[1] not in sources:
            sources.append(found[1])
            progress(f"building {found[1]} from source: its bits depend on this machine's compiler")
    elif line.startswith("Installing collected packages"):
        progress("unpacking")
    elif "Retrying (" in line:
        progress("the package index does not answer; pip tries again")


def _pip_failed(lines: list[str]) -> ExecutionError:
    last = _last_lines(lines)
    text = "\n".join(lines)
    if "DO NOT MATCH THE HASHES" in text:
        return ExecutionError(
            f"the package index offers other bytes than those that were locked: {last}",
            hint="find out who changed the distribution; or replay with --executor host",
        )
    if _UNREACHABLE.search(text):
        return ExecutionError(
            f"the environment could not be installed, as the package index could not be reached: {last}",
            hint="replay again when it can be reached, or use --executor host",
        )
    return ExecutionError(
        f"the environment could not be installed from the lock: {last}",
        hint="give pip an index that has these distributions, by its own configuration; or use --executor host",
    )


def _last_lines(lines: list[str]) -> str:
    """Return what a program said last about its failure, in one line, without addresses, which may hold credentials."""
    errors = [line.strip() for line in lines if re.match(r"\s*(ERROR|error|Error)\b", line)]
    said = errors[-3:] or [line.strip() for line in lines if line.strip()][-3:]
    return _URL.sub("<url>", " ".join(said))[:600] or "it said nothing"
