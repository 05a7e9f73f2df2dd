"""How the processors and the memory of this machine are laid out, from the files of the kernel.

Sources: the kernel's "CPU topology", "sysfs-devices-system-cpu", "sysfs-devices-node" and "EDAC" documents.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_ACCELERATORS: Final = ("0x0300", "0x0302", "0x0380", "0x1200")
"""Classes of the PCI "Code and ID Assignment": VGA, 3D and other display controllers, processing accelerators."""


def layout(root: Path = Path("/")) -> Iterator[tuple[str, object]]:
    """Return caches, hyper-threading, frequencies, NUMA nodes and error correction; `None` for what is not told."""
    cpus = root / "sys/devices/system/cpu"
    yield "cpu_caches", _caches(cpus / "cpu0/cache")
    yield "cpu_smt", {"1": "on", "0": "off"}.get(_text(cpus / "smt/active"))
    yield "cpu_online", _text(cpus / "online")
    yield "cpu_governor", ",".join(_different(cpus, "cpu[0-9]*/cpufreq/scaling_governor")) or None
    yield "cpu_frequency_driver", _text(cpus / "cpu0/cpufreq/scaling_driver") or None
    if (kilohertz := _text(cpus / "cpu0/cpufreq/cpuinfo_max_freq")).isdecimal():
        yield "cpu_max_mhz", int(kilohertz) // 1000
    yield "cpu_boost", _boost(cpus)
    nodes = sorted((root / "sys/devices/system/node").glob("node[0-9]*"), key=lambda node: int(node.name[4:]))
    yield "numa_cpus", "; ".join(f"{node.name[4:]}: {_text(node / 'cpulist')}" for node in nodes) or None
    if len(nodes) > 1:
        yield "numa_distances", "; ".join(_text(node / "distance") for node in nodes)
    yield "memory_error_correction", _error_correction(root / "sys/devices/system/edac/mc")
    yield "swap_bytes", _swap(_text(root / "proc/swaps"))


def accelerators(root: Path = Path("/")) -> dict[str, int]:
    """Count accelerators on the PCI bus, by `VENDOR:DEVICE DRIVER`; those that drive a display end in `(display)`."""
    found = Counter[str]()
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        kind = _text(device / "class")
        if kind.startswith(_ACCELERATORS):
            driver = (device / "driver").resolve().name if (device / "driver").exists() else "no driver"
            named = ":".join(_text(device / part).removeprefix("0x") for part in ("vendor", "device"))
            found[f"{named} {driver}{' (display)' if kind.startswith(_ACCELERATORS[0]) else ''}"] += 1
    return dict(found)


def _caches(folder: Path) -> str | None:
    kinds = {"Data": "d", "Instruction": "i"}
    found = []
    for index in sorted(folder.glob("index[0-9]*")):
        name = f"L{_text(index / 'level')}{kinds.get(_text(index / 'type'), '')}"
        found.append(f"{name} {_text(index / 'size')} (CPUs {_text(index / 'shared_cpu_list')})")
    return ", ".join(found) or None


def _boost(cpus: Path) -> str | None:
    no_turbo = _text(cpus / "intel_pstate/no_turbo")
    return {"0": "on", "1": "off"}.get(no_turbo) or {"1": "on", "0": "off"}.get(_text(cpus / "cpufreq/boost"))


def _error_correction(controllers: Path) -> str | None:
    """Return what each module of memory can correct, such as `S8ECD8ED`; `None` where no driver tells it."""
    modes = _different(controllers, "mc[0-9]*/*/dimm_edac_mode") or _different(controllers, "mc[0-9]*/*/edac_mode")
    return ",".join(modes) or None


def _swap(text: str) -> int | None:
    sizes = [line.split()[2] for line in text.splitlines()[1:] if len(line.split()) > 2]
    return sum(int(size) for size in sizes if size.isdecimal()) * 1024 if text else None


def _different(folder: Path, pattern: str) -> list[str]:
    return sorted({text for file in folder.glob(pattern) if (text := _text(file))})


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
