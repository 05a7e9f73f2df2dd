"""The energy that the machine used during the run, where it has counters: processors, memory beside them, NVIDIA GPUs.

The counters are the machine's. Whatever else ran on it meanwhile is in the sum, which the fact `energy_scope` says.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

from repro.evidence.model import Fact, Gap
from repro.record.capture import Context, Findings, Patience, observed
from repro.record.machine import rapl

WATTS_PER_CORE: Final = 10.0
"""Of a busy core of a server processor, with its share of caches and memory: 200 to 400 W for 24 to 64 cores."""
_LOOK_SECONDS: Final = 30.0
"""Counters go round after some minutes at the earliest."""
_NVML_SECONDS: Final = 5.0
_DRIVER: Final = Path("/proc/driver/nvidia/version")
_SCOPE: Final = "the whole machine from just before the command started until it ended, other work on it included"

_meters: WeakKeyDictionary[Patience, Meter] = WeakKeyDictionary()


class Meter:
    """Follows the counters of this machine from when it is started, in a thread of its own.

    Args:
        powercap: The folder of the processors' counters.
        nvml: The library of the GPUs; `None` where there is no driver.
    """

    def __init__(self, powercap: Path = rapl.ROOT, nvml: str | Path | None = None) -> None:
        self.gaps: list[Gap] = []
        self._nvml = nvml
        self._gpus: dict[str, int] = {}
        self._stop = threading.Event()
        self._processors: rapl.Counters | None = None
        try:
            self._processors = rapl.Counters(powercap) or None
        except rapl.Unreadable as error:
            self._cannot("the processors", str(error))
        self._thread = threading.Thread(target=self._follow, name="energy", daemon=True)

    def start(self) -> None:
        """Start to follow; GPUs are asked beside the command, since that takes some 20 ms."""
        if self._processors is not None or self._nvml is not None:
            self._thread.start()

    def end(self) -> tuple[Fact, ...]:
        """Return the joules that were used, with where they were counted; nothing where there is no counter."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_NVML_SECONDS)
        self._update()
        joules: dict[str, float] = {}
        if self._processors is not None:
            joules["rapl"] = self._processors.microjoules / 1e6
        if self._gpus:
            after = self._ask_gpus()
            joules["nvml"] = sum(after[uuid] - before for uuid, before in self._gpus.items() if uuid in after) / 1e3
        if not joules:
            return ()
        parts = [observed("hardware", f"energy_{name}_joules", f"{value:.3f}") for name, value in joules.items()]
        return (
            observed("hardware", "energy_joules", f"{sum(joules.values()):.3f}"),
            observed("hardware", "energy_source", "+".join(joules)),
            observed("hardware", "energy_scope", _SCOPE),
            *(parts if len(parts) > 1 else ()),
        )

    def _follow(self) -> None:
        if self._nvml is not None:
            self._gpus = self._ask_gpus()
        while not self._stop.wait(_LOOK_SECONDS):
            self._update()

    def _update(self) -> None:
        try:
            if self._processors is not None:
                self._processors.update()
        except rapl.Unreadable as error:
            self._processors = None
            self._cannot("the processors", str(error))

    def _ask_gpus(self) -> dict[str, int]:
        from repro.record.machine import nvml

        try:
            return nvml.ask(nvml.Nvml.energy_millijoules, _NVML_SECONDS, self._nvml or nvml.LIBRARY)
        except nvml.NvmlError as error:
            self._cannot("GPU", str(error))
            return {}

    def _cannot(self, subject: str, reason: str) -> None:
        gap = Gap(topic="hardware", subject=f"energy of {subject}", reason=f"its counters were not read: {reason}")
        if gap not in self.gaps:
            self.gaps.append(gap)


def estimate(cpu_seconds: float, why: str = "this machine has no counters") -> tuple[Fact, ...]:
    """Return an estimate of the energy that a run used, marked as one.

    Args:
        cpu_seconds: User and system time of all its processes.
        why: Why nothing was counted.
    """
    source = f"estimate: CPU time times {WATTS_PER_CORE:g} W for a busy core, GPUs left out; {why}"
    return (
        observed("hardware", "energy_joules", f"{cpu_seconds * WATTS_PER_CORE:.3f}"),
        observed("hardware", "energy_source", source),
    )


def before(context: Context) -> Findings:
    """Read the counters for the first time."""
    meter = Meter(nvml="libnvidia-ml.so.1" if _DRIVER.exists() else None)
    _meters[context.patience] = meter
    meter.start()
    return Findings()


def after(context: Context) -> Findings:
    """Read them again; a machine without any gets an estimate."""
    meter = _meters.pop(context.patience, None)
    if meter is None:
        return Findings()
    facts = meter.end()
    if not facts and context.cpu_seconds is not None:
        # Most users may not read the counters: the estimate says so, and a gap in each of their runs would say no more.
        return Findings(facts=estimate(context.cpu_seconds, *(gap.reason for gap in meter.gaps[:1])))
    return Findings(facts=facts, gaps=tuple(meter.gaps))
