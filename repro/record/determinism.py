"""What `repro record --determinism` sets before the command starts: variables that libraries read when they load.

Nothing that the user has set is overwritten, and `off` sets nothing. In the process, the agent does the rest when torch
is imported (`repro/agent/determinism.py`). `warn` and `strict` set the same; they differ in what an operation without a
deterministic way does there: it warns, or it fails.

- `CUBLAS_WORKSPACE_CONFIG`: cuBLAS is free to choose another algorithm per stream otherwise (its documentation,
  "Results Reproducibility").
- `NCCL_*`: one order of summation. The tuner may choose another algorithm each time, and in-switch reductions (NVLS,
  CollNet) depend on the history of allocations (NVIDIA/nccl issues 1497 and 2360).
- `FLASH_ATTENTION_DETERMINISTIC`, `NVTE_ALLOW_NONDETERMINISTIC_ALGO`: libraries outside of torch that have a switch.
- `OMP_NUM_THREADS`, `MKL_NUM_THREADS`: the physical cores that the command may use, which is what torch's MKL takes by
  itself; where a launcher starts the ranks, it divides the cores by leaving or setting these, so they are left to it.

`MKL_CBWR` is left alone: at one number of threads on one CPU, MKL repeats itself bit for bit without it, and its modes
cost speed. A replay on another CPU is held to the recorded one instead.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from repro.evidence.canonical import storable
from repro.evidence.model import Fact
from repro.record.capture import observed

Mode = Literal["off", "warn", "strict"]
VARIABLE: Final = "REPRO_DETERMINISM"
"""Tells the agent the mode."""
MODES: Final[tuple[Mode, ...]] = ("off", "warn", "strict")

_VARIABLES: Final = {
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "FLASH_ATTENTION_DETERMINISTIC": "1",
    "NCCL_ALGO": "Ring",
    "NCCL_COLLNET_ENABLE": "0",
    "NCCL_NVLS_ENABLE": "0",
    "NCCL_PROTO": "Simple",
    "NVTE_ALLOW_NONDETERMINISTIC_ALGO": "0",
}
_THREADS: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_LAUNCHER: Final = re.compile(
    r"torchrun|torch\.distributed\.(run|launch)|accelerate|deepspeed|horovodrun|mpirun|mpiexec(\..*)?|srun|fabric|colossalai"
)
_WORDS: Final = 6
"""Of a command line in which a launcher is looked for; later ones are the script's."""


def prepared(
    environment: Mapping[str, str],
    argv: Sequence[str],
    mode: Mode,
    replay_of: str | None = None,
    *,
    cpus: Path = Path("/sys/devices/system/cpu"),
) -> tuple[dict[str, str], tuple[Fact, ...]]:
    """Return the environment that a mode asks for, and the facts about it.

    Args:
        environment: As the user has it.
        argv: The command.
        mode: Where it is `off`, the environment is returned as it is.
        replay_of: Where it repeats a run, the recorded variables are in the environment, and stay as they are.
        cpus: The kernel's folder about CPUs.
    """
    about: dict[str, str] = {"mode": mode}
    if mode == "off" or replay_of is not None:
        return dict(environment), _facts(about)
    wanted = dict(_VARIABLES)
    launcher = next((name for word in argv[:_WORDS] if _LAUNCHER.fullmatch(name := word.rpartition("/")[2])), None)
    if launcher is not None:
        about["threads"] = f"left to {launcher}, which divides the cores among ranks"
    elif not any(environment.get(name) for name in _THREADS):  # each library heeds the other's, where one is set
        wanted |= dict.fromkeys(_THREADS, str(_physical_cores(cpus)))
    kept = {name: environment[name] for name in (*wanted, *_THREADS) if environment.get(name)}
    added = {name: value for name, value in wanted.items() if name not in kept}
    about["variables_set"] = _listed(added)
    about["variables_kept"] = _listed(kept)
    return {**environment, **added}, _facts(about)


def mode_of(text: str | None) -> Mode:
    """Return the mode that a record names; `off` where it names none, as records did before there were modes."""
    return next((mode for mode in MODES if mode == text), "off")


def _facts(about: Mapping[str, str]) -> tuple[Fact, ...]:
    return tuple(observed("determinism", name, storable(value)) for name, value in about.items() if value)


def _listed(variables: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(variables.items()))


def _physical_cores(cpus: Path) -> int:
    """Count the cores that this process may use, hyper-threads of one core as one, as MKL does."""
    usable = os.sched_getaffinity(0)
    cores = {_core(cpus / f"cpu{number}" / "topology", number) for number in usable}
    return max(1, len(cores))


def _core(topology: Path, number: int) -> tuple[str, ...]:
    try:
        return tuple((topology / name).read_text().strip() for name in ("physical_package_id", "core_id"))
    except OSError:
        return (str(number),)
