"""How the CPU here stands to the recorded one, and which variables hold numeric libraries to what they did there. Pure.

Thread counts and instruction sets change the bits in three libraries, each with its own variables: ATen, oneDNN, MKL.
They are set only where the CPU here would make a library choose otherwise, and never against a recorded variable.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from repro.evidence.model import Fact, Record

_AVX512: Final = frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma"})
_AVX2: Final = frozenset({"avx2", "fma"})
_HELD: Final[Mapping[str, Mapping[str, str]]] = {
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "DEFAULT": {"ATEN_CPU_CAPABILITY": "default"},
}
"""By the level that PyTorch had when recorded, where the CPU here offers a higher one."""
_LEVELS: Final = ("DEFAULT", "AVX2", "AVX512")


def variables(record: Record, facts: tuple[Fact, ...]) -> dict[str, str]:
    """Return the variables that make numeric libraries choose here as they chose when recorded."""
    return {**_instruction_sets(record, facts), **_threads(record, facts)}


def count(ranges: str) -> int:
    """Return how many CPUs a list such as `0-3,8` names; 0 if it is no such list."""
    total = 0
    for part in ranges.split(","):
        low, _, high = part.partition("-")
        if not low.isdecimal() or not (high or low).isdecimal():
            return 0
        total += int(high or low) - int(low) + 1
    return total


def _instruction_sets(record: Record, facts: tuple[Fact, ...]) -> dict[str, str]:
    recorded, here = _setting(record, "torch.cpu_capability"), _level(_value(facts, "cpu_isa"))
    if recorded not in _LEVELS or here is None or _LEVELS.index(recorded) >= _LEVELS.index(here):
        return {}
    return dict(_HELD.get(recorded, {}))


def _level(isa: str | None) -> str | None:
    """Return the level that PyTorch would choose on a CPU with these instruction sets."""
    if isa is None or "sse4_2" not in isa.split():  # not x86
        return None
    has = frozenset(isa.split())
    return "AVX512" if has >= _AVX512 else "AVX2" if has >= _AVX2 else "DEFAULT"


def _threads(record: Record, facts: tuple[Fact, ...]) -> dict[str, str]:
    """Return thread counts where the cores differ.

    The environment alone does not hold MKL to a count above the physical cores unless MKL_DYNAMIC is off; the agent
    sets PyTorch's own count besides.
    """
    threads = _setting(record, "torch.num_threads")
    if threads is None or _cores(record.facts) == _cores(facts):
        return {}
    return {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "MKL_DYNAMIC": "FALSE"}


def _cores(facts: tuple[Fact, ...]) -> tuple[int, str | None]:
    return count(_value(facts, "cpu_affinity") or ""), _value(facts, "cpu_cores")


def _value(facts: tuple[Fact, ...], name: str) -> str | None:
    return next((fact.value for fact in facts if (fact.topic, fact.name) == ("hardware", name)), None)


def _setting(record: Record, name: str) -> str | None:
    """Return a setting of the process nearest to the first one, as it stood when its library was imported."""
    found = [setting for setting in record.settings if (setting.moment, setting.name) == ("import", name)]
    return min(found, key=lambda setting: (len(setting.process_key), setting.process_key)).value if found else None
