"""The machine: what of it bears on the bits, and what an auditor asks for."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from repro.evidence import canonical
from repro.evidence.canonical import storable
from repro.evidence.model import Gap
from repro.record.capture import Context, Findings, observed
from repro.record.machine import disks, processors

_ISA: Final = (
    "sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16",
    "avx512_fp16", "avx_vnni", "amx_tile", "amx_bf16", "amx_int8", "asimd", "asimdhp", "asimddp", "sve", "sve2",
    "bf16", "i8mm",
)  # fmt: skip
"""Instruction sets by which numeric libraries choose their kernels, as Linux names them."""
_GPU_FIELDS: Final = (
    "name", "uuid", "driver_version", "memory.total", "vbios_version", "compute_cap", "ecc.mode.current",
    "mig.mode.current",
)  # fmt: skip
_TIMEOUT_SECONDS: Final = 20
_NVIDIA_DRIVER: Final = Path("/proc/driver/nvidia/version")
_OTHER_COMPUTE_DRIVERS: Final = ("amdgpu", "xe", "habanalabs", "neuron", "gasket", "apex")
_MAX_DATA_FOLDERS: Final = 1000


def alongside(context: Context) -> Findings:
    """Read the kernel's files about the machine, and ask the GPUs' driver where there is one."""
    facts = dict[str, object](kernel=platform.release(), machine=platform.machine(), hostname=platform.node())
    facts.update(_processor())
    facts.update(processors.layout())
    facts.update(_limits())
    mounts = disks.Mounts()
    facts["disk.root"] = mounts.describe(Path("/"))
    facts["disk.code"] = mounts.describe(context.root)
    gpus, gaps = _gpus(context)
    facts.update(gpus)
    found = processors.accelerators()
    facts["accelerators"] = ", ".join(f"{count} of {name}" for name, count in found.items())
    gaps += _undescribed(found)
    known = sorted((name, str(value)) for name, value in facts.items() if value not in (None, ""))
    return Findings(facts=tuple(observed("hardware", name, storable(value)) for name, value in known), gaps=gaps)


def after(context: Context) -> Findings:
    """Say on what the data lie that the run read."""
    inputs = (file.path for file in context.findings.data_files if file.role == "input" and file.category == "data")
    names = {path.rpartition("/")[0] for path in inputs}
    folders = {context.root / os.fsdecode(canonical.decode_path(name)) for name in names}
    mounts = disks.Mounts()
    found = {mounts.describe(folder) for folder in sorted(folders)[:_MAX_DATA_FOLDERS]} - {None}
    value = "; ".join(sorted(map(str, found)))
    return Findings(facts=(observed("hardware", "disk.data", value),) if value else ())


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _processor() -> Iterator[tuple[str, object]]:
    fields, sockets, cores = _cpuinfo(_text("/proc/cpuinfo") or "")
    flags = sorted((fields.get("flags") or fields.get("Features") or "").split())
    yield "cpu_model", fields.get("model name") or fields.get("CPU part") or platform.processor()
    yield "cpu_vendor", fields.get("vendor_id") or fields.get("CPU implementer")
    yield "cpu_microcode", fields.get("microcode")
    yield "cpu_count", os.cpu_count()
    yield "cpu_cores", cores or None
    yield "cpu_sockets", sockets or None
    if flags:
        yield "cpu_flags_sha256", canonical.digest(" ".join(flags).encode())
        yield "cpu_isa", " ".join(name for name in _ISA if name in flags)
    yield "numa_nodes", len(list(Path("/sys/devices/system/node").glob("node[0-9]*"))) or None
    memory = dict(line.split(":", 1) for line in (_text("/proc/meminfo") or "").splitlines() if ":" in line)
    if total := memory.get("MemTotal"):
        yield "memory_bytes", int(total.split()[0]) * 1024


def _cpuinfo(text: str) -> tuple[dict[str, str], int, int]:
    """Return the fields of the first processor, the number of sockets and of physical cores."""
    blocks = [
        {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in block.splitlines())}
        for block in text.split("\n\n")
        if block.strip()
    ]
    sockets = {block["physical id"] for block in blocks if "physical id" in block}
    cores = {
        (block["physical id"], block["core id"]) for block in blocks if "physical id" in block and "core id" in block
    }
    return (blocks[0] if blocks else {}), len(sockets), len(cores)


def _limits() -> Iterator[tuple[str, object]]:
    with contextlib.suppress(AttributeError, OSError):
        yield "cpu_affinity", _ranges(sorted(os.sched_getaffinity(0)))
    group = next((line[3:] for line in (_text("/proc/self/cgroup") or "").splitlines() if line.startswith("0::")), "/")
    for base in (f"/sys/fs/cgroup{group}", "/sys/fs/cgroup"):
        cpu, memory = _text(f"{base}/cpu.max"), _text(f"{base}/memory.max")
        if cpu or memory:
            yield "cgroup_cpu_max", cpu
            yield "cgroup_memory_max", memory
            return
    yield "cgroup_cpu_quota", _text("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
    yield "cgroup_memory_limit", _text("/sys/fs/cgroup/memory/memory.limit_in_bytes")


def _ranges(numbers: list[int]) -> str:
    """Write sorted numbers as the kernel does: `0-3,8`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)


def _gpus(context: Context) -> tuple[dict[str, object], tuple[Gap, ...]]:
    """Ask the driver's library, else its program; a machine with neither has no such facts."""
    version = re.search(r"Kernel Module\s+(?:for \S+\s+)?(\S+)", _text(str(_NVIDIA_DRIVER)) or "")
    facts = {"gpu_kernel_driver": version[1]} if version else dict[str, object]()
    if version is None and shutil.which("nvidia-smi", path=_path(context)) is None:
        return facts, ()
    from repro.record.machine import nvml

    try:
        return {**facts, **nvml.ask(lambda library: dict(library.facts()), _TIMEOUT_SECONDS)}, ()
    except nvml.NvmlError as error:
        found = _ask_program(context)
        if found is not None:
            return {**facts, **found}, ()
        reason = f"there is an NVIDIA driver, but neither its library nor nvidia-smi answered: {error}"
        return facts, (Gap(topic="hardware", subject="GPU", reason=storable(reason)),)


def _undescribed(found: dict[str, int]) -> tuple[Gap, ...]:
    """Return gaps for accelerators that a program may have used and whose settings nobody here can ask for."""
    reason = "only NVIDIA's GPUs can be asked: its settings, driver and firmware are not known"
    return tuple(
        Gap(topic="hardware", subject=f"accelerator {name}", reason=reason)
        for name in found
        if name.rpartition(" ")[2] in _OTHER_COMPUTE_DRIVERS
    )


def _ask_program(context: Context) -> dict[str, object] | None:
    """Return what nvidia-smi tells, or `None` where it is not installed or fails."""
    program = shutil.which("nvidia-smi", path=_path(context))
    if program is None:
        return None
    query = [program, f"--query-gpu={','.join(_GPU_FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(
            query, capture_output=True, timeout=_TIMEOUT_SECONDS, check=True, process_group=0
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    rows = [line.split(", ") for line in answer.decode("utf-8", "replace").splitlines() if line.strip()]
    facts: dict[str, object] = {"gpu_count": len(rows)}
    for index, row in enumerate(rows):
        for name, value in zip(_GPU_FIELDS, row, strict=False):
            facts[f"gpu.{index}.{name.replace('.', '_').replace('memory_total', 'memory_mebibytes')}"] = value.strip()
    return facts


def _path(context: Context) -> str:
    return context.environment.get("PATH", os.defpath)
