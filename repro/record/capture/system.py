"""The operating system under the run: packages, container, locale, time zone, umask, limits, scheduling, kernel."""

from __future__ import annotations

import os
import platform
import re
import resource
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Final

from repro.evidence import canonical
from repro.evidence.canonical import storable
from repro.evidence.model import Gap
from repro.record.capture import Context, Findings, observed

_LIMITS: Final = {name.removeprefix("RLIMIT_").lower(): name for name in dir(resource) if name.startswith("RLIMIT_")}
_LIMITS.pop("ofile", None)  # another name of `nofile`
_CATEGORIES: Final = (
    "LC_CTYPE", "LC_NUMERIC", "LC_TIME", "LC_COLLATE", "LC_MONETARY", "LC_MESSAGES",
)  # fmt: skip
_POLICIES: Final = {
    number: name.removeprefix("SCHED_").lower()
    for name in ("SCHED_OTHER", "SCHED_BATCH", "SCHED_IDLE", "SCHED_FIFO", "SCHED_RR")
    if (number := getattr(os, name, None)) is not None
}
_KERNEL_OPTIONS: Final = re.compile(
    r"(isolcpus|nohz_full|maxcpus|nr_cpus|nosmt|numa|numa_balancing|transparent_hugepage|hugepages|hugepagesz"
    r"|default_hugepagesz|clearcpuid|noxsave|noxsaveopt|nopcid|intel_pstate|amd_pstate|processor\.max_cstate"
    r"|intel_idle\.max_cstate|iommu|intel_iommu|amd_iommu|pci|norandmaps|init_on_alloc|mem)(=.*)?"
)
"""Options of the kernel that bear on results or on speed; the others are left out, since the line may hold anything."""
_KERNEL_SETTINGS: Final = {
    "transparent_hugepages": "sys/kernel/mm/transparent_hugepage/enabled",
    "hugepages": "proc/sys/vm/nr_hugepages",
    "address_randomization": "proc/sys/kernel/randomize_va_space",
    "numa_balancing": "proc/sys/kernel/numa_balancing",
    "overcommit_memory": "proc/sys/vm/overcommit_memory",
}
_ZONES: Final = "usr/share/zoneinfo"
_POSIX_ZONE: Final = re.compile(r"(<[^>]+>|[A-Za-z]{3,})[+-]?\d")
"""A time zone that holds its own rules, such as `CET-1CEST`."""


def alongside(context: Context) -> Findings:
    """Read what the kernel and the managers of packages keep in files: the command inherits all of it from us."""
    from repro.record.machine import container
    from repro.record.software import ospackages

    packages, gaps = ospackages.installed()
    about_container, more = container.look(context.environment)
    found: dict[str, object] = {}
    for part in (_process(), _limits(), _control_group(), _kernel()):
        found.update(part)
    found["locale"] = locale(context.environment)
    zone, zone_gaps = _time_zone(context.environment)
    found.update(zone)
    known = sorted((name, str(value)) for name, value in found.items() if value not in (None, ""))
    facts = tuple(observed("environment", name, storable(value)) for name, value in known)
    return Findings(facts=facts + about_container, gaps=gaps + more + zone_gaps, system_packages=packages)


def locale(environment: Mapping[str, str]) -> str:
    """Return what programs are told to use: one name, or `CATEGORY=NAME;…` where categories differ."""
    every = environment.get("LC_ALL")
    names = {category: every or environment.get(category) or environment.get("LANG") or "C" for category in _CATEGORIES}
    if len(set(names.values())) == 1:
        return names["LC_CTYPE"]
    return ";".join(f"{category}={name}" for category, name in names.items())


def _process() -> Iterator[tuple[str, object]]:
    status = dict(line.split(":\t", 1) for line in _text("proc/self/status").splitlines() if ":\t" in line)
    yield "umask", status.get("Umask")  # reading it with umask(2) would change it
    yield "nice", os.getpriority(os.PRIO_PROCESS, 0)
    yield "scheduling_policy", _POLICIES.get(os.sched_getscheduler(0))
    yield "user_is_root", str(os.geteuid() == 0).lower()
    yield "seccomp", {"0": "off", "1": "strict", "2": "filter"}.get(status.get("Seccomp", "").strip())
    yield "memory_nodes_allowed", status.get("Mems_allowed_list")


def _limits() -> Iterator[tuple[str, object]]:
    """Return the limits as `SOFT:HARD`; in the units of getrlimit(2)."""
    for name, constant in _LIMITS.items():
        try:
            soft, hard = resource.getrlimit(getattr(resource, constant))
        except (OSError, ValueError):
            continue
        yield f"limit.{name}", f"{_limit(soft)}:{_limit(hard)}"


def _limit(number: int) -> str:
    return "unlimited" if number == resource.RLIM_INFINITY else str(number)


def _control_group() -> Iterator[tuple[str, object]]:
    from repro.record.machine import cgroup

    limits = cgroup.limits()
    for field in fields(limits):
        yield f"cgroup_{field.name}", getattr(limits, field.name)


def _kernel() -> Iterator[tuple[str, object]]:
    yield "kernel_version", platform.version()
    yield "kernel_options", " ".join(word for word in _text("proc/cmdline").split() if _KERNEL_OPTIONS.fullmatch(word))
    for name, path in _KERNEL_SETTINGS.items():
        # Of several words, the one in brackets is in force: "always [madvise] never".
        text = _text(path)
        chosen = re.search(r"\[(.+?)\]", text)
        yield name, chosen[1] if chosen else text


def _time_zone(environment: Mapping[str, str], root: Path = Path("/")) -> tuple[dict[str, object], tuple[Gap, ...]]:
    """Return the name of the time zone and the digest of its rules, which change several times a year."""
    name = environment.get("TZ", "").removeprefix(":")
    named = name or _zone_of_machine(root)
    found: dict[str, object] = {"timezone": named or "UTC"}
    version = re.match(r"# version (\S+)", _text(f"{_ZONES}/tzdata.zi", root))
    found["timezone_database"] = version[1] if version else None
    file = root / "etc/localtime" if not name else root / _ZONES / name.lstrip("/").removeprefix(f"{_ZONES}/")
    try:
        found["timezone_rules"] = canonical.digest(file.read_bytes())
    except (OSError, ValueError):
        if (name and not _POSIX_ZONE.match(name)) or file.is_symlink():
            reason = "its rules are not in this machine's database: local times follow the name alone, or UTC"
            return found, (Gap(topic="environment", subject=f"time zone {storable(named or '')}", reason=reason),)
    return found, ()


def _zone_of_machine(root: Path) -> str | None:
    try:
        target = str((root / "etc/localtime").readlink())
    except OSError:
        return _text("etc/timezone", root) or None
    return target.partition("zoneinfo/")[2] or None


def _text(path: str, root: Path = Path("/")) -> str:
    try:
        return (root / path).read_text(encoding="utf-8", errors="replace").strip()
    except (OSError, ValueError):
        return ""
