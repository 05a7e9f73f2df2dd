"""The packages of the operating system, from the databases that their managers keep.

Sources: `dpkg` keeps RFC 822 paragraphs in `/var/lib/dpkg/status` (deb822(5)); `apk` one letter a line in
`lib/apk/db/installed` (Alpine's "Apk spec"); the database of `rpm` is read by `rpm` alone.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from repro.evidence.canonical import storable
from repro.evidence.model import Gap, SystemPackage

_RPM_FORMAT: Final = "%{NAME}\t%{EPOCHNUM}:%{VERSION}-%{RELEASE}\t%{ARCH}\n"
_RPM_TIMEOUT_SECONDS: Final = 30
_RPM_DATABASES: Final = ("var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm")


def installed(root: Path = Path("/")) -> tuple[tuple[SystemPackage, ...], tuple[Gap, ...]]:
    """Return the installed packages of whatever managers are found below a root, sorted."""
    found: list[SystemPackage] = []
    gaps: list[Gap] = []
    for database, read in ((root / "var/lib/dpkg/status", _dpkg), (root / "lib/apk/db/installed", _apk)):
        try:
            found += read(database.read_text(encoding="utf-8", errors="replace"))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            reason = f"the list of installed packages could not be read: {error.strerror}"
            gaps.append(Gap(topic="environment", subject=str(database), reason=reason))
    if any((root / name).is_dir() for name in _RPM_DATABASES) and not found:
        packages, more = _rpm(root)
        found, gaps = found + packages, gaps + more
    if not found and not gaps:
        reason = (
            "no list of system packages was found (dpkg, rpm, apk): which system libraries were installed is not known"
        )
        gaps.append(Gap(topic="environment", subject="system packages", reason=reason))
    return tuple(sorted(found, key=lambda p: (p.manager, p.name, p.architecture))), tuple(gaps)


def _dpkg(text: str) -> Iterator[SystemPackage]:
    for paragraph in f"\n{text}".split("\n\n"):
        # Such as "install ok installed"; a package that was removed but for its configuration stays listed.
        if (name := _field(paragraph, "Package")) and _field(paragraph, "Status").endswith(" installed"):
            yield SystemPackage(
                manager="dpkg",
                name=name,
                version=_field(paragraph, "Version"),
                architecture=_field(paragraph, "Architecture"),
                build=None,
            )


def _field(paragraph: str, name: str) -> str:
    """Return a field of one line; a regular expression for all of them takes ten times as long."""
    start = f"\n{paragraph}".find(f"\n{name}: ")
    if start < 0:
        return ""
    start += len(name) + 2
    end = paragraph.find("\n", start)
    return paragraph[start : end if end >= 0 else None].strip()


def _apk(text: str) -> Iterator[SystemPackage]:
    for paragraph in text.split("\n\n"):
        fields = {line[0]: line[2:] for line in reversed(paragraph.splitlines()) if line[1:2] == ":"}
        if "P" in fields:
            name, version, architecture = fields["P"], fields.get("V", ""), fields.get("A", "")
            yield SystemPackage(manager="apk", name=name, version=version, architecture=architecture, build=None)


def _rpm(root: Path) -> tuple[list[SystemPackage], list[Gap]]:
    program = shutil.which("rpm")
    if program is None:
        reason = "packages are kept by rpm, which is not installed itself: they could not be listed"
        return [], [Gap(topic="environment", subject="system packages", reason=reason)]
    command = [program, "--root", str(root.absolute()), "-qa", "--qf", _RPM_FORMAT]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_RPM_TIMEOUT_SECONDS, check=True, process_group=0)
    except (OSError, subprocess.SubprocessError) as error:
        reason = f"rpm is installed but could not list them: {type(error).__name__}"
        return [], [Gap(topic="environment", subject="system packages", reason=reason)]
    rows = (line.split("\t") for line in done.stdout.decode("utf-8", "replace").splitlines())
    found = [_rpm_row(*row) for row in rows if len(row) == 3 and row[0] != "gpg-pubkey"]
    # Several versions of one package may be installed at a time: kernels, for one.
    newest = {(package.name, package.architecture): package for package in found}
    return list(newest.values()), []


def _rpm_row(name: str, version: str, architecture: str) -> SystemPackage:
    return SystemPackage(
        manager="rpm",
        name=storable(name),
        version=version.removeprefix("0:"),
        architecture=architecture.replace("(none)", ""),
        build=None,
    )
