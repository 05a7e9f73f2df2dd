"""The machine: what of it bears on the bits, and what an auditor asks for."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from repro.evidence import canonical
from repro.evidence.canonical import storable
from repro.evidence.model import Gap
from repro.record.capture import Context, Findings, observed

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
_SMI_TIMEOUT_SECONDS: Final = 20


def beside(context: Context) -> Findings:
    """Read the kernel's files about the machine, and ask the GPU driver's own tool where it is installed."""
    facts = dict[str, object](kernel=platform.release(), machine=platform.machine(), hostname=platform.node())
    facts.update(_processor())
    facts.update(_limits())
    gpus, gaps = _gpus(context)
    facts.update(gpus)
    known = sorted((name, str(value)) for name, value in facts.items() if value not in (None, ""))
    return Findings(facts=tuple(observed("hardware", name, storable(value)) for name, value in known), gaps=gaps)


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
    """Ask nvidia-smi; a machine without it has no such facts, one where it fails has a gap."""
    program = shutil.which("nvidia-smi", path=context.environment.get("PATH", os.defpath))
    if program is None:
        return {}, ()
    query = [program, f"--query-gpu={','.join(_GPU_FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(
            query, capture_output=True, timeout=_SMI_TIMEOUT_SECONDS, check=True, process_group=0
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return {}, (
            Gap(topic="hardware", subject="GPU", reason=f"nvidia-smi is installed but failed: {type(error).__name__}"),
        )
    rows = [line.split(", ") for line in answer.decode("utf-8", "replace").splitlines() if line.strip()]
    facts: dict[str, object] = {"gpu_count": len(rows)}
    for index, row in enumerate(rows):
        for name, value in zip(_GPU_FIELDS, row, strict=False):
            facts[f"gpu.{index}.{name.replace('.', '_').replace('memory_total', 'memory_mebibytes')}"] = value.strip()
    return facts, ()
