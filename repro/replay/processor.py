"""How the CPU here stands to the recorded one, and which variables hold numeric libraries to what they did there. Pure.

Thread counts and instruction sets change the bits in three libraries, each with its own variables: ATen, oneDNN, MKL.
They are set only where the CPU here would make a library choose otherwise, and never against a recorded variable.
ATen's level is what PyTorch said of itself; oneDNN and MKL look at the CPU alone, so theirs comes from the CPUs.
"""

from __future__ import annotations

from typing import Final

from repro.evidence.model import Fact, Record

_AVX512: Final = frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma"})
_AVX2: Final = frozenset({"avx2", "fma"})
_LEVELS: Final = ("DEFAULT", "AVX2", "AVX512")
"""Of ATen, lowest first; also the coarse levels of MKL, where one that is below AVX2 has no name of its own."""
_ONEDNN: Final[tuple[tuple[str, frozenset[str]], ...]] = (
    ("SSE41", frozenset({"sse4_2"})),
    ("AVX", frozenset({"avx"})),
    ("AVX2", _AVX2),
    ("AVX2_VNNI", _AVX2 | {"avx_vnni"}),
    ("AVX512_CORE", _AVX512),
    ("AVX512_CORE_VNNI", _AVX512 | {"avx512_vnni"}),
    ("AVX512_CORE_BF16", _AVX512 | {"avx512_vnni", "avx512_bf16"}),
    ("AVX512_CORE_FP16", _AVX512 | {"avx512_vnni", "avx512_bf16", "avx512_fp16"}),
    ("AVX512_CORE_AMX", _AVX512 | {"avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"}),
)
"""Levels of oneDNN's ONEDNN_MAX_CPU_ISA, lowest first, and what a CPU needs for each ("CPU Dispatcher Control")."""
_INTEL: Final = "GenuineIntel"

Stand = tuple[bool, str]
"""Whether a difference still puts the bits at risk, and what becomes of it, in one sentence."""


def variables(record: Record, facts: tuple[Fact, ...]) -> dict[str, str]:
    """Return the variables that make numeric libraries choose here as they chose when recorded."""
    return {**_instruction_sets(record, facts), **_threads(record, facts)}


def stands(record: Record, facts: tuple[Fact, ...]) -> dict[str, Stand]:
    """Say by name of a hardware fact what a replay does about its difference, and what it cannot do."""
    threads = _setting(record, "torch.num_threads")
    found: dict[str, Stand] = {"cpu_affinity": _of_affinity(record, facts, threads), "cpu_isa": _of_isa(record, facts)}
    if threads is not None:
        found["cpu_cores"] = (False, f"PyTorch is held to the recorded number of threads, {threads}")
    found["cpu_vendor"] = (True, "MKL chooses its kernels by the CPU's maker, which no variable changes")
    return found


def count(ranges: str) -> int:
    """Return how many CPUs a list such as `0-3,8` names; 0 if it is no such list."""
    return len(numbers(ranges))


def numbers(ranges: str) -> frozenset[int]:
    """Return the CPUs that a list such as `0-3,8` names; none if it is no such list."""
    found: set[int] = set()
    for part in ranges.split(","):
        low, _, high = part.partition("-")
        if not low.isdecimal() or not (high or low).isdecimal() or len(high or low) > 6:
            return frozenset()
        found.update(range(int(low), int(high or low) + 1))
    return frozenset(found)


def _of_affinity(record: Record, facts: tuple[Fact, ...], threads: str | None) -> Stand:
    recorded, here = (_cores(rows)[0] for rows in (record.facts, facts))
    if recorded <= here:
        return False, f"the replay may use {recorded} of them, as the run could"
    if threads is None:
        return True, f"the run could use {recorded} CPUs, and there are {here} here: libraries may take fewer threads"
    return False, f"PyTorch is held to the recorded number of threads, {threads}, on fewer CPUs; others may take fewer"


def _of_isa(record: Record, facts: tuple[Fact, ...]) -> Stand:
    recorded, here = _setting(record, "torch.cpu_capability"), _level(_value(facts, "cpu_isa"))
    if recorded in _LEVELS and (here is None or _LEVELS.index(recorded) > _LEVELS.index(here)):
        return True, f"PyTorch ran its {recorded} kernels, which this CPU cannot run: that cannot be had here"
    held = ", ".join(f"{name}={value}" for name, value in sorted(_instruction_sets(record, facts).items()))
    if not held:
        return True, "no library is known to choose otherwise for this"
    maker = "" if _value(facts, "cpu_vendor") == _INTEL else "; MKL heeds its variable on Intel CPUs alone"
    return True, f"libraries are held to what they chose there: {held}{maker}"


def _instruction_sets(record: Record, facts: tuple[Fact, ...]) -> dict[str, str]:
    level, here = _setting(record, "torch.cpu_capability"), _value(facts, "cpu_isa")
    if level not in _LEVELS or _level(here) is None:
        return {}
    found = {}
    if _lower(level, _level(here)):
        found["ATEN_CPU_CAPABILITY"] = level.lower()
    isa = _value(record.facts, "cpu_isa")
    coarse = level if isa is None else _level(isa)
    if coarse == "AVX2" and _lower(coarse, _level(here)):
        found["MKL_ENABLE_INSTRUCTIONS"] = "AVX2"
    onednn = _onednn(isa) if isa is not None else coarse if coarse == "AVX2" else None
    names = [name for name, _ in _ONEDNN]
    ours = _onednn(here)
    if onednn is not None and ours is not None and names.index(onednn) < names.index(ours):
        found["ONEDNN_MAX_CPU_ISA"] = onednn
    return found


def _lower(one: str, other: str | None) -> bool:
    return other is not None and _LEVELS.index(one) < _LEVELS.index(other)


def _level(isa: str | None) -> str | None:
    """Return the level that PyTorch would choose on a CPU with these instruction sets."""
    if isa is None or "sse4_2" not in isa.split():  # not x86
        return None
    has = frozenset(isa.split())
    return "AVX512" if has >= _AVX512 else "AVX2" if has >= _AVX2 else "DEFAULT"


def _onednn(isa: str | None) -> str | None:
    """Return the highest level of oneDNN that a CPU with these instruction sets has."""
    has = frozenset((isa or "").split())
    return next((name for name, needed in reversed(_ONEDNN) if needed <= has), None)


def _threads(record: Record, facts: tuple[Fact, ...]) -> dict[str, str]:
    """Return thread counts where the cores differ.

    The environment alone does not hold MKL to a count above the physical cores unless MKL_DYNAMIC is off; the agent
    sets PyTorch's own count besides, in each process. Where processes had different counts, a launcher shared out the
    cores: it does not if it finds a count in the environment, so the counts are left to it and to the agent.
    """
    counts = {row.value for row in record.settings if (row.moment, row.name) == ("import", "torch.num_threads")}
    if not counts or _cores(record.facts) == _cores(facts):
        return {}
    held = {"MKL_DYNAMIC": "FALSE"}
    return {**held, **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), *counts)} if len(counts) == 1 else held


def _cores(facts: tuple[Fact, ...]) -> tuple[int, str | None]:
    return count(_value(facts, "cpu_affinity") or ""), _value(facts, "cpu_cores")


def _value(facts: tuple[Fact, ...], name: str) -> str | None:
    return next((fact.value for fact in facts if (fact.topic, fact.name) == ("hardware", name)), None)


def _setting(record: Record, name: str) -> str | None:
    """Return a setting of the process nearest to the first one, as it stood when its library was imported."""
    found = [setting for setting in record.settings if (setting.moment, setting.name) == ("import", name)]
    return min(found, key=lambda setting: (len(setting.process_key), setting.process_key)).value if found else None
