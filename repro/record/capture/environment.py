"""The recorded interpreter and every distribution that it can import."""

from __future__ import annotations

import io
import json
import os
import platform
import re
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Literal

from repro.evidence import canonical
from repro.evidence.canonical import encode_path, storable
from repro.evidence.model import Fact, Gap, Package
from repro.record.capture import Context, Findings, observed
from repro.record.eventlog import Start
from repro.record.redact import url

_INSTALLERS: Final = ("pip", "uv", "poetry", "pdm", "pipenv")
_SEPARATORS: Final = re.compile(r"[-_.]+")
_SUFFIX: Final = re.compile(r"[\s+]")
"""Before what an installer adds to its name, as in `Poetry 1.8.2`."""
_METADATA_MEMBER: Final = re.compile(r"EGG-INFO/PKG-INFO|[^/~][^/]*\.dist-info/METADATA|[^/~][^/]*\.egg-info/PKG-INFO")


def beside(context: Context) -> Findings:
    """List the distributions of the first Python process that reported, and say what it runs on."""
    if context.interpreter is None:
        return Findings(facts=_machine(context))
    packages, gaps = distributions(context.interpreter, context.working_directory)
    facts = [*_interpreter(context.interpreter), *_machine(context)]
    facts.append(observed("environment", "fingerprint", fingerprint(context.interpreter, packages)))
    facts += _shadowed(packages)
    return Findings(facts=tuple(facts), gaps=gaps, packages=packages)


def after(context: Context) -> Findings:
    """Say which other interpreters took part: their distributions were not listed."""
    if context.events is None or context.interpreter is None:
        return Findings()
    own = context.interpreter.prefix
    others = {start.prefix: start for start in reversed(context.events.starts) if start.prefix != own}
    reason = "another Python environment took part in the run: its distributions were not recorded"
    gaps = (
        Gap(topic="environment", subject=prefix, reason=f"{reason} ({others[prefix].process_key})") for prefix in others
    )
    return Findings(gaps=tuple(gaps))


def fingerprint(interpreter: Start, packages: tuple[Package, ...]) -> str:
    """Return what names an environment: the digest of interpreter version and kind, platform, and all packages."""
    rows = sorted([p.name, p.version, p.origin, p.direct_url, p.record_sha256] for p in packages)
    about = [
        interpreter.python_version,
        interpreter.implementation,
        sysconfig.get_platform(),
        "-".join(platform.libc_ver()),
    ]
    return canonical.digest(canonical.dumps([*about, rows]))


def distributions(interpreter: Start, working_directory: Path) -> tuple[tuple[Package, ...], tuple[Gap, ...]]:
    """Return the distributions on an interpreter's `sys.path`, and gaps for those that cannot be read.

    They are sorted by name; of one name, the one that an import finds comes first. Eggs and other archives on the path
    are looked into.
    """
    packages: dict[tuple[str, str], Package] = {}
    gaps: list[Gap] = []
    for entry in dict.fromkeys(interpreter.path):
        location = working_directory / os.fsdecode(canonical.decode_path(entry)) if entry else working_directory
        for where, package in (*_in_folder(location, interpreter), *_in_archive(location)):
            if package is None:
                reason = "its metadata has no readable name and version"
                gaps.append(Gap(topic="environment", subject=where, reason=reason))
                continue
            known = packages.setdefault((package.name, package.location), package)
            if known.version != package.version:
                reason = (
                    f"{known.version} and {package.version} of it are installed at one place: one of them is left over"
                )
                gaps.append(Gap(topic="environment", subject=package.name, reason=storable(reason)))
    return tuple(sorted(packages.values(), key=lambda p: p.name)), tuple(gaps)


def _shadowed(packages: tuple[Package, ...]) -> tuple[Fact, ...]:
    """Name the distributions that no import finds, as another of that name comes earlier on the path."""
    first = {package.name: package for package in reversed(packages)}
    rest = [f"{p.name} {p.version} at {p.location}" for p in packages if p is not first[p.name]]
    return (observed("environment", "packages_shadowed", storable("; ".join(rest))),) if rest else ()


def _in_folder(location: Path, interpreter: Start) -> Iterator[tuple[str, Package | None]]:
    try:
        names = sorted(path.name for path in location.iterdir())
    except OSError:  # an archive, or an entry that does not exist
        return
    own = ("EGG-INFO",) if location.suffix == ".egg" else ()  # an egg that was unpacked
    for name in names:
        if (name.endswith((".dist-info", ".egg-info")) and not name.startswith("~")) or name in own:
            metadata = location / name
            yield encode_path(metadata), _package(metadata, location, interpreter)


def _in_archive(location: Path) -> Iterator[tuple[str, Package | None]]:
    """Look into an egg, a wheel or another archive that is on the path as it is."""
    if not location.is_file():
        return
    import zipfile

    try:
        with zipfile.ZipFile(location) as archive:
            for member in sorted(name for name in archive.namelist() if _METADATA_MEMBER.fullmatch(name)):
                with archive.open(member) as raw, io.TextIOWrapper(raw, encoding="utf-8", errors="replace") as lines:
                    name, version = _head(lines)
                yield encode_path(location / member), _made(name, version, location)
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        return


def _made(name: str | None, version: str | None, location: Path, **more: Any) -> Package | None:
    if name is None or version is None:
        return None
    known: dict[str, Any] = {"origin": "unknown", "direct_url": None, "record_sha256": None, "wheel_sha256": None}
    normal = _SEPARATORS.sub("-", name).lower()
    return Package(name=normal, version=version, location=encode_path(location), **{**known, **more})


def _package(metadata: Path, location: Path, interpreter: Start) -> Package | None:
    direct_url = _direct_url(metadata)
    return _made(
        *_name_and_version(metadata),
        location,
        origin=_origin(metadata, direct_url, interpreter),
        direct_url=_address(direct_url),
        record_sha256=_digest(metadata / "RECORD"),
    )


def _name_and_version(metadata: Path) -> tuple[str | None, str | None]:
    """Read the two fields at the head of METADATA; the e-mail parser takes ten times as long."""
    file = (
        metadata if metadata.is_file() else metadata / ("METADATA" if metadata.suffix == ".dist-info" else "PKG-INFO")
    )
    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            return _head(lines)
    except OSError:
        return None, None


def _head(lines: Iterable[str]) -> tuple[str | None, str | None]:
    found: dict[str, str] = {}
    for line in lines:
        key, colon, value = line.partition(":")
        if not line.strip() or len(found) == 2:
            break
        if colon and key.lower() in ("name", "version") and value.strip():
            found[key.lower()] = storable(value.strip())
    return found.get("name"), found.get("version")


def _direct_url(metadata: Path) -> dict[str, Any] | None:
    """Read `direct_url.json` (PEP 610)."""
    try:
        found = json.loads((metadata / "direct_url.json").read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _address(direct_url: dict[str, Any] | None) -> str | None:
    if direct_url is None or not isinstance(direct_url.get("url"), str):
        return None
    details = direct_url.get("vcs_info")
    commit = details.get("commit_id") if isinstance(details, dict) else None
    return url(storable(direct_url["url"])) + (f"@{storable(str(commit))}" if commit else "")


def _origin(
    metadata: Path, direct_url: dict[str, Any] | None, interpreter: Start
) -> Literal["index", "direct", "editable", "unknown"]:
    if direct_url is not None:
        details = direct_url.get("dir_info")
        return "editable" if isinstance(details, dict) and details.get("editable") else "direct"
    if metadata.suffix == ".egg-info" and metadata.name != "EGG-INFO":
        # `setup.py develop` leaves the metadata beside the sources.
        inside = encode_path(metadata).startswith((interpreter.prefix + "/", interpreter.base_prefix + "/"))
        return "unknown" if inside else "editable"
    try:
        installer = (metadata / "INSTALLER").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return "unknown"
    return "index" if _SUFFIX.split(installer)[0].lower() in _INSTALLERS else "unknown"


def _digest(file: Path) -> str | None:
    try:
        return canonical.digest_file(file)[0]
    except OSError:
        return None


def _interpreter(start: Start) -> Iterator[Fact]:
    for name in ("python_version", "implementation", "executable", "prefix", "base_prefix", "build"):
        yield observed("environment", name, getattr(start, name))


def _machine(context: Context) -> tuple[Fact, ...]:
    facts = [
        observed("environment", "platform", platform.platform()),
        observed("environment", "libc", "-".join(platform.libc_ver())),
    ]
    if name := _operating_system():
        facts.append(observed("environment", "os", name))
    if container := _container():
        facts.append(observed("environment", "container", container))
    if conda := context.environment.get("CONDA_PREFIX"):
        facts.append(observed("environment", "conda", storable(conda)))
    return tuple(facts)


def _operating_system() -> str | None:
    try:
        about = platform.freedesktop_os_release()
    except OSError:
        return None
    return storable(about.get("PRETTY_NAME") or about.get("NAME", ""))


def _container() -> str | None:
    """Return the engine whose mark lies in the file system, if this looks like a container."""
    marks = {"/.dockerenv": "docker", "/run/.containerenv": "podman", "/.singularity.d": "apptainer"}
    return next((engine for mark, engine in marks.items() if Path(mark).exists()), None)
