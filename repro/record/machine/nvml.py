"""Ask NVIDIA's management library about the GPUs, without any package: it comes with the driver.

Functions and constants are those of `nvml.h` ("NVML API Reference Guide"). Each call may answer "not supported" on one
GPU and not on another: what is not answered is left out.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

LIBRARY: Final = "libnvidia-ml.so.1"
_TEXT_BYTES: Final = 256
_MAX_LINKS: Final = 18
_GRAPHICS_CLOCK, _SM_CLOCK, _MEMORY_CLOCK = 0, 1, 2
_COMPUTE_MODES: Final = ("Default", "Exclusive_Thread", "Prohibited", "Exclusive_Process")
_SWITCH: Final = ("Disabled", "Enabled")
_LEVELS: Final = {
    0: "same board",
    10: "one PCIe switch",
    20: "several PCIe switches",
    30: "host bridge",
    40: "NUMA node",
    50: "system",
}
"""`nvmlGpuTopologyLevel_t`: what a copy between two GPUs has to cross."""
_Answer = TypeVar("_Answer")


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class _Pci(ctypes.Structure):
    """`nvmlPciInfo_t` of version 3."""

    _fields_ = (
        ("bus_id_legacy", ctypes.c_char * 16),
        ("domain", ctypes.c_uint),
        ("bus", ctypes.c_uint),
        ("device", ctypes.c_uint),
        ("pci_device_id", ctypes.c_uint),
        ("pci_subsystem_id", ctypes.c_uint),
        ("bus_id", ctypes.c_char * 32),
    )


class NvmlError(Exception):
    """The library is not there, or does not answer."""


class Nvml:
    """The library, in use.

    Args:
        library: Its name or path.

    Raises:
        NvmlError: It cannot be loaded, or finds no driver.
    """

    def __init__(self, library: str | Path = LIBRARY) -> None:
        try:
            self._library = ctypes.CDLL(str(library))
        except OSError as error:
            raise NvmlError(f"{library} could not be loaded: {error}") from None
        if (code := self._call("nvmlInit_v2")) != 0:
            raise NvmlError(f"{library} found no driver that works (its error {code})")

    def close(self) -> None:
        """Let go of the driver."""
        self._call("nvmlShutdown")

    def facts(self) -> Iterator[tuple[str, object]]:
        """Return what is known of all GPUs: names are those of `nvidia-smi --query-gpu`."""
        devices = self._devices()
        yield "gpu_count", len(devices)
        yield "gpu_driver", self._text("nvmlSystemGetDriverVersion")
        yield "gpu_driver_cuda", self._cuda()
        yield "nvml", self._text("nvmlSystemGetNVMLVersion")
        for index, device in enumerate(devices):
            for name, value in self._device(device):
                if value is not None:
                    yield f"gpu.{index}.{name}", value
        yield from self._topology(devices)

    def energy_millijoules(self) -> dict[str, int]:
        """Return the energy that each GPU has used since its driver was loaded, by UUID; Volta and later tell it."""
        found: dict[str, int] = {}
        for device in self._devices():
            used, uuid = self._number("nvmlDeviceGetTotalEnergyConsumption", device, kind=ctypes.c_ulonglong), None
            if used is not None:
                uuid = self._text("nvmlDeviceGetUUID", device)
            if used is not None and uuid:
                found[uuid] = used
        return found

    def _call(self, name: str, *arguments: Any) -> int:
        try:
            return int(getattr(self._library, name)(*arguments))
        except AttributeError:  # an older driver
            return -1

    def _text(self, name: str, *arguments: Any) -> str | None:
        text = ctypes.create_string_buffer(_TEXT_BYTES)
        failed = self._call(name, *arguments, text, ctypes.c_uint(_TEXT_BYTES))
        return None if failed else text.value.decode("utf-8", "replace")

    def _number(self, name: str, *arguments: Any, kind: Any = ctypes.c_uint) -> int | None:
        number = kind()
        return None if self._call(name, *arguments, ctypes.byref(number)) else int(number.value)

    def _pair(self, name: str, device: Any) -> tuple[int, int] | None:
        first, second = ctypes.c_uint(), ctypes.c_uint()
        failed = self._call(name, device, ctypes.byref(first), ctypes.byref(second))
        return None if failed else (first.value, second.value)

    def _devices(self) -> list[ctypes.c_void_p]:
        found = []
        for index in range(self._number("nvmlDeviceGetCount_v2") or 0):
            device = ctypes.c_void_p()
            if self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(device)) == 0:
                found.append(device)
        return found

    def _cuda(self) -> str | None:
        version = self._number("nvmlSystemGetCudaDriverVersion_v2", kind=ctypes.c_int)
        return None if version is None else f"{version // 1000}.{version % 1000 // 10}"

    def _device(self, device: ctypes.c_void_p) -> Iterator[tuple[str, object]]:
        yield "name", self._text("nvmlDeviceGetName", device)
        yield "uuid", self._text("nvmlDeviceGetUUID", device)
        yield "driver_version", self._text("nvmlSystemGetDriverVersion")
        yield "vbios_version", self._text("nvmlDeviceGetVbiosVersion", device)
        memory, pci = _Memory(), _Pci()
        if not self._call("nvmlDeviceGetMemoryInfo", device, ctypes.byref(memory)):
            yield "memory_mebibytes", memory.total // 2**20
        if not self._call("nvmlDeviceGetPciInfo_v3", device, ctypes.byref(pci)):
            yield "pci_bus_id", pci.bus_id.decode("ascii", "replace")
        if capability := self._pair("nvmlDeviceGetCudaComputeCapability", device):
            yield "compute_cap", f"{capability[0]}.{capability[1]}"
        for name, function in (
            ("ecc_mode_current", "nvmlDeviceGetEccMode"),
            ("mig_mode_current", "nvmlDeviceGetMigMode"),
        ):
            pair = self._pair(function, device)
            yield name, _named(_SWITCH, pair[0]) if pair else "[N/A]"
        yield "persistence_mode", _named(_SWITCH, self._number("nvmlDeviceGetPersistenceMode", device))
        yield "compute_mode", _named(_COMPUTE_MODES, self._number("nvmlDeviceGetComputeMode", device))
        yield from self._clocks(device)
        limit = self._number("nvmlDeviceGetPowerManagementLimit", device)
        yield "power_limit_watts", None if limit is None else f"{limit / 1000:g}"

    def _clocks(self, device: ctypes.c_void_p) -> Iterator[tuple[str, object]]:
        """Return the settings of the clocks, in MHz; what they are just now varies with load and heat."""
        for name, clock in (("graphics", _GRAPHICS_CLOCK), ("sm", _SM_CLOCK), ("memory", _MEMORY_CLOCK)):
            yield f"clock_max_{name}_mhz", self._number("nvmlDeviceGetMaxClockInfo", device, ctypes.c_uint(clock))
            if clock != _SM_CLOCK:
                chosen = self._number("nvmlDeviceGetApplicationsClock", device, ctypes.c_uint(clock))
                yield f"clock_application_{name}_mhz", chosen

    def _topology(self, devices: list[ctypes.c_void_p]) -> Iterator[tuple[str, object]]:
        for index, device in enumerate(devices):
            states = (
                self._number("nvmlDeviceGetNvLinkState", device, ctypes.c_uint(link)) for link in range(_MAX_LINKS)
            )
            if links := sum(state == 1 for state in states):
                yield f"gpu.{index}.nvlinks", links
            for other in range(index + 1, len(devices)):
                level = self._number("nvmlDeviceGetTopologyCommonAncestor", device, devices[other], kind=ctypes.c_int)
                if level is not None:
                    yield f"gpu.{index}.path_to.{other}", _LEVELS.get(level, str(level))


def _named(names: tuple[str, ...], number: int | None) -> str | None:
    return None if number is None else names[number] if number < len(names) else str(number)


def ask(question: Callable[[Nvml], _Answer], timeout_seconds: float, library: str | Path = LIBRARY) -> _Answer:
    """Open the library, ask, and close it, in a thread of its own: a broken driver may never answer.

    Raises:
        NvmlError: It cannot be asked, or did not answer in time.
    """
    answers: list[_Answer] = []
    errors: list[NvmlError] = []

    def run() -> None:
        try:
            with contextlib.closing(Nvml(library)) as nvml:
                answers.append(question(nvml))
        except NvmlError as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="nvml", daemon=True)
    thread.start()
    thread.join(timeout_seconds)
    if answers:
        return answers[0]
    raise errors[0] if errors else NvmlError(f"{library} did not answer within {timeout_seconds:g} s")
