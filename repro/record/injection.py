"""The environment of the command: what wakes the agent in every Python process of the run."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import repro
from repro.evidence.canonical import storable
from repro.evidence.model import Fact
from repro.record import determinism, tracing
from repro.record.capture import observed
from repro.record.determinism import Mode
from repro.record.excerpt import OPERATIONS_VARIABLE, STEPS_VARIABLE, WHOLE, Excerpt
from repro.record.tracing import Tracing

INJECT: Final = Path(repro.__file__).parent / "agent" / "inject"
_AGENT_VARIABLES: Final = (
    "REPRO_EVENTS",
    "REPRO_ENTROPY",
    "REPRO_CLAIMED_KEY",
    tracing.EVERY_VARIABLE,
    tracing.BUDGET_VARIABLE,
    determinism.VARIABLE,
    STEPS_VARIABLE,
    OPERATIONS_VARIABLE,
)


def without_agent(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without what an outer recording added: the inner one starts afresh."""
    kept = {
        name: value
        for name, value in environment.items()
        if name not in _AGENT_VARIABLES and not name.startswith("REPRO_PROCESS_")
    }
    if "PYTHONPATH" in kept:
        entries = [entry for entry in kept["PYTHONPATH"].split(os.pathsep) if entry != str(INJECT)]
        kept["PYTHONPATH"] = os.pathsep.join(entries)
        if not entries:
            del kept["PYTHONPATH"]
    return kept


def with_agent(
    environment: Mapping[str, str],
    events: Path,
    entropy: Path | None,
    wanted: Tracing,
    mode: Mode = "off",
    part: Excerpt = WHOLE,
) -> tuple[dict[str, str], tuple[Fact, ...]]:
    """Return the command's environment, and the facts about what is chosen for it: the hash seed and what is traced."""
    path = [str(INJECT), *([environment["PYTHONPATH"]] if environment.get("PYTHONPATH") else [])]
    added = {"PYTHONPATH": os.pathsep.join(path), "REPRO_EVENTS": str(events), **wanted.variables(), **part.variables()}
    if entropy is not None:
        added["REPRO_ENTROPY"] = str(entropy)
    if mode != "off":
        added[determinism.VARIABLE] = mode
    seed, source = environment.get("PYTHONHASHSEED", ""), "set by the user"
    if seed in ("", "random"):
        seed, source = str(1 + secrets.randbelow(2**32 - 1)), "chosen by repro"
    added["PYTHONHASHSEED"] = seed
    facts = observed("randomness", "hash_seed", storable(seed)), observed("randomness", "hash_seed_source", source)
    return {**environment, **added}, (*facts, *wanted.facts(), *part.facts())
