"""A hash-pinned lock of exactly the distributions that are installed, with the hashes that the package index gives.

An installed distribution does not know the hash of the file it came from, so the index has to be asked. Nothing has
to be resolved, since the environment is complete: `askindex.py` asks for the files of each NAME==VERSION, beside the
training, at the lowest priority. Each answer is kept for the next run, by name, version and pip's configuration, so
that one that was cut off goes on where it ended, and a changed environment asks for what is new. The lock is
complete, so it is installed with `pip install --no-deps --require-hashes -r`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any, Final, cast

from repro.evidence.canonical import decode_path, storable
from repro.evidence.model import Gap, Package
from repro.record import statebook
from repro.record.capture import Patience
from repro.record.eventlog import Start
from repro.record.redact import url

_ASKER: Final = Path(__file__).parent / "askindex.py"
_POLL_SECONDS: Final = 0.1
_NOT_FOUND_LASTS_SECONDS: Final = 86_400.0
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_ADDRESS: Final = re.compile(r"\S*://\S+|\(from [^)]*\)|\bhost='[^']*'|<[^>]*object at [^>]*>")
INDEX: Final = "index"
"""Subject of the gap for all distributions of which no index said anything."""
_NAMED: Final = 5
"""How many of them are named."""
_LATE: Final = "asking the package index took longer than the run could wait"


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFile:
    """One file that an index has of a distribution."""

    name: str
    url: str
    """Without credentials."""
    sha256: str
    """64 hexadecimal digits."""
    size_bytes: int | None
    uploaded_at: str | None
    """As the index says it (PEP 700)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the index said about one version of a distribution."""

    name: str
    version: str
    index: str | None
    """The first index that has it, without credentials; `None` where only a find-links place does."""
    files: tuple[IndexFile, ...]
    trouble: str | None = None
    """Why an index could not be asked."""

    @property
    def only_here(self) -> bool:
        """Whether all its files lie on this machine, so that another one could not fetch them."""
        return all(file.url.startswith("file:") for file in self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unasked:
    """The distributions of which no index said anything."""

    names: tuple[str, ...]
    """Sorted."""
    of: int
    """How many were to be asked for."""
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """What came of it: the lock's text, empty if there is none, what is missing from it, and what the index said."""

    text: str
    gaps: tuple[Gap, ...]
    answers: tuple[Answer, ...] = ()
    unasked: Unasked | None = None

    def gaps_besides(self, kept: Collection[str]) -> tuple[Gap, ...]:
        """Return the gaps that are left where the wheels of these distributions were kept."""
        others = tuple(gap for gap in self.gaps if gap.subject not in (INDEX, *kept))
        if self.unasked is None:
            return others
        rest = tuple(name for name in self.unasked.names if name not in kept)
        return (*(_unasked(replace(self.unasked, names=rest)) if rest else ()), *others)


def resolve(
    interpreter: Start,
    packages: tuple[Package, ...],
    environment: Mapping[str, str],
    patience: Patience,
    cache: Path | None = None,
) -> Lock:
    """Return the lock of an environment.

    A distribution that no index has gets a gap, and the rest is locked without it. An editable or direct one has no
    file at the index and gets a gap too. Where the index does not answer, or there is no more time, one gap says so
    of all.

    Args:
        interpreter: The recorded one.
        packages: Its distributions; of those with one name, the first counts.
        environment: The user's, for pip's configuration.
        patience: How long to go on.
        cache: Where answers are kept.
    """
    gaps = [_not_at_index(package) for package in packages if package.origin in ("editable", "direct")]
    pins = {package.name: package.version for package in reversed(packages) if package.origin in ("index", "unknown")}
    keeper = _Keeper(cache, environment, interpreter)
    answers = {name: kept for name, version in pins.items() if (kept := keeper.get(name, version))}
    missing = {name: version for name, version in pins.items() if name not in answers}
    reason = None
    if missing:
        fresh, reason = _ask(interpreter, missing, environment, patience, keeper)
        answers.update(fresh)
    known = tuple(answers[name] for name in sorted(answers))
    found = tuple(answer for answer in known if answer.files)
    unasked = _missing(pins, answers, reason)
    gaps += [*(_unasked(unasked) if unasked else ()), *_not_found(answers, unasked)]
    return Lock(text="".join(pin(a.name, a.version, [f.sha256 for f in a.files]) for a in found), gaps=tuple(gaps),
                answers=known, unasked=unasked)  # fmt: skip


def pin(name: str, version: str, hashes: list[str]) -> str:
    """Return one requirement of a lock: `name==version` with its hashes (64 hexadecimal digits each)."""
    return f"{name}=={version}" + "".join(f" \\\n    --hash=sha256:{each}" for each in sorted(set(hashes))) + "\n"


def _not_at_index(package: Package) -> Gap:
    what = "an editable install" if package.origin == "editable" else "installed from a file, a folder or a repository"
    return Gap(topic="lock", subject=package.name, reason=f"not locked: {package.version} is {what}, not from an index")


def _missing(pins: Mapping[str, str], answers: Mapping[str, Answer], reason: str | None) -> Unasked | None:
    """Return what was not answered, and why."""
    names = sorted(name for name in pins if name not in answers or (answers[name].trouble and not answers[name].files))
    if not names:
        return None
    troubles = [answer.trouble for answer in answers.values() if answer.trouble and not answer.files]
    cause = reason or next(iter(troubles), None) or "no reason was given"
    return Unasked(names=tuple(names), of=len(pins), cause=_shown(cause))


def _unasked(found: Unasked) -> tuple[Gap, ...]:
    """Say in one gap what was not answered: a cut-off lock of a hundred distributions is one thing."""
    first = ", ".join(found.names[:_NAMED]) + (", …" if len(found.names) > _NAMED else "")
    which = "" if len(found.names) == found.of else f" {len(found.names)} of {found.of} distributions ({first}):"
    return (Gap(topic="lock", subject=INDEX, reason=storable(f"not locked:{which} {found.cause}")),)


def _not_found(answers: Mapping[str, Answer], unasked: Unasked | None) -> Iterator[Gap]:
    """Name each distribution that no index has."""
    for name in sorted(set(answers) - set(unasked.names if unasked else ())):
        if not answers[name].files:
            text = f"not locked: no package index that pip asks has {name} {answers[name].version}"
            yield Gap(topic="lock", subject=name, reason=storable(text))


def _ask(
    interpreter: Start, pins: Mapping[str, str], environment: Mapping[str, str], patience: Patience, keeper: _Keeper
) -> tuple[dict[str, Answer], str | None]:
    """Run the program that asks; return what it answered, and why it did not answer all."""
    question = {
        "wanted": sorted(pins.items()),
        "prefix": os.fsdecode(decode_path(interpreter.prefix)),
        "python": ".".join(interpreter.python_version.split(".")[:2]),
    }
    clean = {name: value for name, value in environment.items() if not name.startswith(("PYTHON", "REPRO_"))}
    found: dict[str, Answer] = {}
    with tempfile.TemporaryDirectory(prefix="repro-lock-") as folder:
        (Path(folder) / "question").write_text(json.dumps(question), encoding="utf-8")
        said = Path(folder) / "said"
        with (Path(folder) / "question").open("rb") as asked, said.open("wb") as errors:
            try:
                process = subprocess.Popen([sys.executable, "-I", str(_ASKER)], cwd=folder, env=clean, stdin=asked,
                    stdout=subprocess.PIPE, stderr=errors, process_group=0)  # fmt: skip
            except OSError as error:
                return {}, f"{sys.executable} could not be started: {error.strerror}"
            for line in _lines(process, patience):
                answer = _answer(line, pins)
                if answer is not None:
                    found[answer.name] = answer
                    keeper.keep(answer)
        if len(found) == len(pins):
            return found, None
        late = _LATE if patience.spent else None
        return found, late or _last_line(said.read_text(encoding="utf-8", errors="replace"))


def _lines(process: subprocess.Popen[bytes], patience: Patience) -> Iterator[bytes]:
    """Yield the lines that a process writes while there is patience, then end its whole process group."""
    stdout, rest = cast("IO[bytes]", process.stdout), b""
    try:
        while not patience.spent:
            if not select.select([stdout], [], [], _POLL_SECONDS)[0]:
                continue
            chunk = os.read(stdout.fileno(), 65_536)
            if not chunk:
                return
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        stdout.close()
        process.wait()


def _answer(line: bytes, pins: Mapping[str, str]) -> Answer | None:
    """Read one line of the program's; `None` where it is none."""
    try:
        found: dict[str, Any] = json.loads(line)
        files = tuple(_file(file) for file in found["files"] if _SHA256.fullmatch(file["sha256"]))
        index = found["index"]
        answer = Answer(name=found["name"], version=found["version"], index=storable(url(index)) if index else None,
                        files=files, trouble=found.get("trouble"))  # fmt: skip
    except (ValueError, KeyError, TypeError):
        return None
    return answer if pins.get(answer.name) == answer.version else None


def _file(found: dict[str, Any]) -> IndexFile:
    return IndexFile(
        name=storable(found["name"]),
        url=storable(url(found["url"])),
        sha256=found["sha256"],
        size_bytes=found["size_bytes"],
        uploaded_at=found["uploaded_at"],
    )


class _Keeper:
    """Answers of earlier runs: one file each, named by distribution, version and where pip looks."""

    def __init__(self, cache: Path | None, environment: Mapping[str, str], interpreter: Start) -> None:
        self._folder = None if cache is None else cache / "index"
        self._where = None if cache is None else _fingerprint(_configuration(environment, interpreter))

    def get(self, name: str, version: str) -> Answer | None:
        """Return what is known; that no index has it is believed for a day."""
        if (path := self._path(name, version)) is None:
            return None
        try:
            answer = _answer(path.read_bytes(), {name: version})
            is_old = time.time() - path.stat().st_mtime > _NOT_FOUND_LASTS_SECONDS
        except OSError:
            return None
        return None if answer is None or (is_old and not answer.files) else answer

    def keep(self, answer: Answer) -> None:
        """Keep an answer, unless an index was missing from it; a cache that cannot be written is none."""
        if (path := self._path(answer.name, answer.version)) is None or answer.trouble:
            return
        statebook.write(path, json.dumps(asdict(answer)).encode())

    def _path(self, name: str, version: str) -> Path | None:
        if self._folder is None:
            return None
        key = hashlib.sha256(repr((self._where, name, version)).encode("utf-8", "backslashreplace")).hexdigest()
        return self._folder / f"{key}.json"


def _fingerprint(configuration: list[object]) -> str:
    """Name a configuration; where it may hold a password, so that guessing that from a file's name is costly."""
    text = repr(configuration).encode("utf-8", "backslashreplace")
    if b"@" not in text:
        return hashlib.sha256(text).hexdigest()
    return hashlib.scrypt(text, salt=b"repro index", n=2**14, r=8, p=1, dklen=32).hex()


def _configuration(environment: Mapping[str, str], interpreter: Start) -> list[object]:
    """Return all that says where pip looks: its variables, and the content of its configuration files."""
    home = environment.get("HOME", "/nonexistent")
    system = (environment.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep)
    files = [
        *(f"{folder}/pip/pip.conf" for folder in system),
        "/etc/pip.conf",
        f"{home}/.pip/pip.conf",
        f"{environment.get('XDG_CONFIG_HOME') or f'{home}/.config'}/pip/pip.conf",
        os.fsdecode(decode_path(interpreter.prefix)) + "/pip.conf",
        environment.get("PIP_CONFIG_FILE", "/nonexistent"),
    ]
    contents: list[bytes | None] = []
    for file in files:
        try:
            contents.append(Path(file).read_bytes())
        except OSError:
            contents.append(None)
    return [sorted((name, value) for name, value in environment.items() if name.startswith("PIP_")), contents]


def _last_line(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith(("Traceback", " "))]
    lines = [line for line in lines if not line.startswith("WARNING")]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["no reason was given"])[-1].removeprefix("ERROR: ")


def _shown(reason: str) -> str:
    """Return a reason in one line, without addresses, which may hold credentials."""
    return storable(_ADDRESS.sub("…", " ".join(reason.split())))[:300]
