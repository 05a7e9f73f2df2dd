"""Read the energy counters of the processors, which the kernel shows below `/sys/class/powercap`.

Source: the kernel's document "Power Capping Framework". A counter is in microjoules and starts again from 0 when it
reaches `max_energy_range_uj`, in some cases every few minutes. Since 2020 only root may read it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path("/sys/class/powercap")


class Unreadable(Exception):
    """The counters are there, and may not be read."""


class Counters:
    """Adds up what the counters of all packages, and of memory beside them, have counted since it was made.

    Args:
        root: The folder of power capping.

    Raises:
        Unreadable: The counters are there, and may not be read.
    """

    def __init__(self, root: Path = ROOT) -> None:
        self.microjoules = 0
        self._last = dict(_read(zone) for zone in _zones(root))
        self._ranges = {zone: _number(zone / "max_energy_range_uj") for zone in self._last}

    def __bool__(self) -> bool:
        return bool(self._last)

    def update(self) -> None:
        """Add what was used since the last time: often enough that no counter goes round twice.

        Raises:
            Unreadable: The counters may not be read any more.
        """
        for zone, last in self._last.items():
            _, now = _read(zone)
            used = now - last
            self.microjoules += used if used >= 0 else used + self._ranges[zone] + 1
            self._last[zone] = now


def _zones(root: Path) -> Iterator[Path]:
    """Return the zones that add up to the whole: packages, and the memory beside each, but no part of a package."""
    # AMD's processors are read under Intel's name too.
    found = sorted(root.glob("intel-rapl:*"))
    names = {zone: _text(zone / "name") for zone in found}
    packages = [zone for zone in found if names[zone].startswith("package")]
    yield from packages
    yield from (zone for zone in found if names[zone] == "dram")
    if not packages:
        yield from (zone for zone in found if names[zone] == "psys")


def _read(zone: Path) -> tuple[Path, int]:
    return zone, _number(zone / "energy_uj")


def _number(path: Path) -> int:
    try:
        return int(path.read_bytes())
    except (OSError, ValueError) as error:
        raise Unreadable(f"{path} could not be read: {getattr(error, 'strerror', None) or error}") from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
