"""Keep wheels, so that a replay needs no index for what no index will have.

`auto` keeps the wheel of a distribution that could not be fetched again: one that no index has, as it was installed
from a repository, a folder or a file; one that only a folder of this machine has; one whose installed files were
changed. `always` keeps all, so that a replay needs no network. The wheel that was installed is taken where it still is
to be had: at the path it was installed from, or by pip, from its cache or the index. It has to hold the very files
that are installed. Else a wheel is made again from these files, and the record says so. An editable install has no
wheel: what the run used of it is code.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal
from urllib.parse import unquote, urlsplit

from repro.errors import ReproError
from repro.evidence.canonical import decode_path, storable
from repro.evidence.model import Gap, Package
from repro.evidence.objects import Objects
from repro.record.capture import Patience
from repro.record.software import installed, repack
from repro.record.software.lock import Answer
from repro.record.software.repack import RepackError

_POLL_SECONDS: Final = 0.1
_NOT_COMPARED: Final = re.compile(r".*\.data/.*|.*\.dist-info/(?:RECORD(?:\.\w+)?|WHEEL)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A wheel in the object store."""

    package: Package
    """With `wheel_sha256`."""
    file_name: str
    repacked: bool
    """Made from the installed files: not the wheel that was installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    package: Package
    record: Path
    answer: Answer | None
    is_changed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheelhouse:
    """Keeps the wheels of one environment."""

    mode: Literal["auto", "always", "never"]
    executable: str
    """The recorded interpreter, for which pip fetches."""
    environment: Mapping[str, str]
    """The user's, for pip's configuration."""
    objects: Objects
    cache: Path
    patience: Patience

    def keep(
        self, packages: Iterable[Package], answers: Iterable[Answer], changed: frozenset[str]
    ) -> tuple[tuple[Kept, ...], tuple[Gap, ...]]:
        """Keep the wheels that are wanted.

        Args:
            packages: Of those with one name, the first counts.
            answers: What the index said.
            changed: Names of distributions whose installed files are not what their wheel held.
        """
        kept, gaps = list[Kept](), list[Gap]()
        for wanted in self._wanted(packages, {answer.name: answer for answer in answers}, changed):
            try:
                kept.append(self._keep(wanted))
            except (RepackError, ReproError, OSError, ValueError, zipfile.BadZipFile) as error:
                said = error.strerror if isinstance(error, OSError) else error
                reason = storable(f"its wheel could not be kept: {said}")[:300]
                gaps.append(Gap(topic="environment", subject=wanted.package.name, reason=reason))
        return tuple(kept), tuple(gaps)

    def _wanted(
        self, packages: Iterable[Package], answers: Mapping[str, Answer], changed: frozenset[str]
    ) -> Iterator[_Wanted]:
        first = {package.name: package for package in reversed(tuple(packages))}
        folders = {
            location: installed.metadata_folders(os.fsdecode(decode_path(location)))
            for location in {package.location for package in first.values()}
        }
        for name, package in sorted(first.items()):
            if self.mode == "never" or package.origin == "editable":
                continue
            answer = answers.get(name)
            record = installed.record_of(package, folders[package.location])
            alone = package.origin == "direct" or (answer is not None and not answer.trouble and answer.only_here)
            if record is not None and (self.mode == "always" or alone or name in changed):
                yield _Wanted(package=package, record=record, answer=answer, is_changed=name in changed)

    def _keep(self, wanted: _Wanted) -> Kept:
        memory = self.cache / "wheels" / f"{_fingerprint(wanted)}.json"
        if (known := self._known(memory, wanted.package)) is not None:
            return known
        self.cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="wheel-", dir=self.cache) as folder:
            original = None if wanted.is_changed else self._original(wanted, Path(folder))
            wheel = original or repack.repack(wanted.record, Path(folder), lambda: self.patience.spent)
            digest, _ = self.objects.put_file(wheel)
        about = {"digest": digest, "file_name": wheel.name, "repacked": original is None}
        with contextlib.suppress(OSError):
            memory.parent.mkdir(mode=0o700, exist_ok=True)
            memory.write_text(json.dumps(about), encoding="utf-8")
        return _kept(wanted.package, about)

    def _known(self, memory: Path, package: Package) -> Kept | None:
        try:
            kept = _kept(package, json.loads(memory.read_bytes()))
            return kept if self.objects.path(kept.package.wheel_sha256 or "").exists() else None
        except (OSError, ValueError, KeyError, TypeError, ReproError):
            return None

    def _original(self, wanted: _Wanted, folder: Path) -> Path | None:
        """Return the wheel that was installed, if it is to be had."""
        for path, digest in _on_this_machine(wanted):
            if _is_it(path, digest, wanted):
                return path
        if self.mode == "always" and wanted.answer is not None:
            for digest in _fitting(wanted):
                fetched = self._fetch(wanted.package, digest, folder)
                if fetched is not None and _is_it(fetched, digest, wanted):
                    return fetched
        return None

    def _fetch(self, package: Package, digest: str, folder: Path) -> Path | None:
        """Let pip fetch one file, which it often has in its cache."""
        requirement = folder / "wanted.txt"
        requirement.write_text(f"{package.name}=={package.version} --hash=sha256:{digest}\n", encoding="utf-8")
        command = [
            *(sys.executable, "-I", "-m", "pip", "--python", self.executable, "download", "-q", "--no-deps"),
            *("--require-hashes", "--only-binary=:all:", "--no-input", "--disable-pip-version-check"),
            *("--progress-bar=off", "-d", os.fspath(folder), "-r", os.fspath(requirement)),
        ]
        clean = {name: value for name, value in self.environment.items() if not name.startswith(("PYTHON", "REPRO_"))}
        process = subprocess.Popen(
            ["nice", "-n", "19", *command],
            cwd=folder,
            env={**clean, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None:
            if self.patience.spent:
                process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_SECONDS)
        return next(iter(folder.glob("*.whl")), None)


def _kept(package: Package, about: Mapping[str, object]) -> Kept:
    return Kept(
        package=replace(package, wheel_sha256=str(about["digest"])),
        file_name=str(about["file_name"]),
        repacked=bool(about["repacked"]),
    )


def _fingerprint(wanted: _Wanted) -> str:
    """Name a wheel by what is installed: RECORD, and the state of every file of a changed one."""
    states: list[object] = []
    if wanted.is_changed:
        location = wanted.record.parent.parent
        for path, _, _ in installed.rows(wanted.record):
            with contextlib.suppress(OSError, ValueError):
                about = (location / path).lstat()
                states.append((path, about.st_size, about.st_mtime_ns, about.st_ctime_ns))
    package = wanted.package
    key = (package.name, package.version, package.location, package.record_sha256, states)
    return hashlib.sha256(repr(key).encode("utf-8", "backslashreplace")).hexdigest()


def _on_this_machine(wanted: _Wanted) -> Iterator[tuple[Path, str | None]]:
    """Yield wheels in the file system that may be the one, with the digest that they must have, if it is known."""
    if (direct := wanted.package.direct_url) is not None and direct.startswith("file:"):
        path = Path(unquote(urlsplit(direct).path))
        if path.suffix == ".whl":
            yield path, None
    fitting = set(_fitting(wanted))
    for file in wanted.answer.files if wanted.answer is not None else ():
        if file.url.startswith("file:") and file.sha256 in fitting:
            yield Path(unquote(urlsplit(file.url).path)), file.sha256


def _fitting(wanted: _Wanted) -> list[str]:
    """Return the digests of the wheels at the index that have a tag of the installed one."""
    tags = set(repack.tags(wanted.record.parent / "WHEEL"))
    files = wanted.answer.files if wanted.answer is not None else ()
    return [file.sha256 for file in files if file.name.endswith(".whl") and tags & set(_tags_of_name(file.name))]


def _tags_of_name(name: str) -> list[str]:
    parts = [part.split(".") for part in name.removesuffix(".whl").split("-")[-3:]]
    return ["-".join((python, abi, platform)) for python in parts[0] for abi in parts[1] for platform in parts[2]]


def _is_it(wheel: Path, digest: str | None, wanted: _Wanted) -> bool:
    """Say whether a wheel has the digest that it must have, and holds the files that are installed."""
    try:
        with wheel.open("rb") as file:
            if digest is not None and hashlib.file_digest(file, "sha256").hexdigest() != digest:
                return False
        there = {path: text for path, text, _ in installed.rows(wanted.record)}
        with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "RECORD").write_bytes(archive.read(f"{wanted.record.parent.name}/RECORD"))
            listed = list(installed.rows(Path(folder) / "RECORD"))
    except (OSError, KeyError, zipfile.BadZipFile):
        return False
    hashed = [(path, text) for path, text, _ in listed if text and not _NOT_COMPARED.fullmatch(path)]
    return bool(hashed) and all(there.get(path) == text for path, text in hashed)
