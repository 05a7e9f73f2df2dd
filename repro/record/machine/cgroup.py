"""What a control group lets the run have: the tightest limit of all levels, since each level binds those below it.

Sources: cgroups(7), and the kernel's documents "Control Group v2" and "CPUSETS". Inside a container the levels above
its own are not in sight; what they cut shows in the CPUs that the scheduler allows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_UNLIMITED_BYTES: Final = 2**60
"""Version 1 says "no limit" with a number near 2^63."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits that were found; `None` where there is none."""

    version: int | None = None
    cpus: float | None = None
    """Time on so many CPUs may be used."""
    memory_bytes: int | None = None
    swap_bytes: int | None = None
    processes: int | None = None
    cpuset: str | None = None
    """The CPUs that may be used, as the kernel writes lists: `0-3,8`."""
    memory_nodes: str | None = None


def limits(proc: Path = Path("/proc/self"), mount: Path = Path("/sys/fs/cgroup")) -> Limits:
    """Return the limits of this process."""
    groups = _groups(_text(proc / "cgroup"))
    unified = groups.get("")
    if unified is not None and ((mount / "cgroup.controllers").exists() or not groups.keys() - {""}):
        return _version_2(mount, unified)
    return _version_1(mount, groups) if groups else Limits()


def _version_2(mount: Path, group: str) -> Limits:
    levels = list(_levels(mount, group))
    quotas = [quota for level in levels if (quota := _quota(_text(level / "cpu.max").split()))]
    return Limits(
        version=2,
        cpus=min(quotas, default=None),
        memory_bytes=_least(levels, "memory.max"),
        swap_bytes=_least(levels, "memory.swap.max"),
        processes=_least(levels, "pids.max"),
        cpuset=_nearest(levels, "cpuset.cpus.effective"),
        memory_nodes=_nearest(levels, "cpuset.mems.effective"),
    )


def _version_1(mount: Path, groups: dict[str, str]) -> Limits:
    levels = {name: list(_levels(mount / name, group)) for name, group in groups.items()}
    quotas = [
        quota
        for level in levels.get("cpu", ())
        if (quota := _quota([_text(level / "cpu.cfs_quota_us"), _text(level / "cpu.cfs_period_us")]))
    ]
    return Limits(
        version=1,
        cpus=min(quotas, default=None),
        memory_bytes=_least(levels.get("memory", ()), "memory.limit_in_bytes"),
        processes=_least(levels.get("pids", ()), "pids.max"),
        cpuset=_nearest(levels.get("cpuset", ()), "cpuset.effective_cpus"),
        memory_nodes=_nearest(levels.get("cpuset", ()), "cpuset.effective_mems"),
    )


def _groups(text: str) -> dict[str, str]:
    """Return the group of each controller; the one of version 2 is called by the empty name."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        _, controllers, group = (*line.split(":", 2), "", "")[:3]
        found.update((name.removeprefix("name="), group) for name in controllers.split(","))
    return found


def _levels(mount: Path, group: str) -> Iterator[Path]:
    """Return the folders of a group and of all above it, the group's own first."""
    parts = [part for part in group.split("/") if part not in ("", "..")]
    for depth in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:depth])


def _quota(words: list[str]) -> float | None:
    try:
        quota, period = int(words[0]), int(words[1])
    except (ValueError, IndexError):  # "max"
        return None
    return quota / period if quota > 0 and period > 0 else None


def _least(levels: list[Path] | tuple[()], name: str) -> int | None:
    numbers = [int(text) for level in levels if (text := _text(level / name)).isdecimal()]
    return min((number for number in numbers if number < _UNLIMITED_BYTES), default=None)


def _nearest(levels: list[Path] | tuple[()], name: str) -> str | None:
    return next((text for level in levels if (text := _text(level / name))), None)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
