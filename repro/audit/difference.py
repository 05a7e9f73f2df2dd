"""One difference between two runs, and what the modules that look for them have in common."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from repro.evidence.model import Record

CHANCE: Final = "randomness"
"""The section of what every run draws anew. It is told, and counts by its effect alone."""

_LEFT_OUT: Final = {
    "code": re.compile(r"tree|diff"),
    "determinism": re.compile(r"(operation|change)\.\d+|variables_(set|kept)"),
    "environment": re.compile(
        r"fingerprint|lock|pylock|conda_explicit|wheel\..*|wheels_repacked|packages_(changed|compared.*|not_compared.*)|commitment_salt|other_variables"
    ),
    "hardware": re.compile(r"energy_.*|gpu\.\d+\.(clock|temperature|utilization|power_draw|memory_used|energy).*"),
}
"""Facts that sum up what is compared piece by piece, and measurements that no two runs share."""
_OF_THE_REPLAY: Final = {
    "code": re.compile(r"commit|branch|dirty|describe"),
    "hardware": re.compile(r"disk\..*"),
    "randomness": re.compile(r"hash_seed_source"),
    "variable": re.compile(r"VIRTUAL_ENV|CONDA_PREFIX|CONDA_DEFAULT_ENV|PYTHONHASHSEED"),
}
"""Facts that a replay has otherwise by construction: without git, in an environment and on a disk of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that is not the same on both sides."""

    section: str
    """One of `repro.audit.diff.SECTIONS`."""
    name: str
    left: str | None
    """`None` where the left side has no such thing."""
    right: str | None
    note: str
    """What to know beside the two values; may be empty."""


def keyed(section: str, left: Mapping[str, str], right: Mapping[str, str], note: str = "") -> Iterator[Difference]:
    """Yield a difference for each name whose values are not the same on both sides."""
    for name in sorted({*left, *right}):
        if left.get(name) != right.get(name):
            yield Difference(section=section, name=name, left=left.get(name), right=right.get(name), note=note)


def replaying(left: Record, right: Record) -> bool:
    """Say whether either run is a replay: what a replay has otherwise by construction is then left out."""
    return left.run.replay_of is not None or right.run.replay_of is not None


def facts(section: str, topic: str, left: Record, right: Record) -> Iterator[Difference]:
    """Compare the facts of a topic by name."""
    rules = [_LEFT_OUT.get(topic), _OF_THE_REPLAY.get(topic) if replaying(left, right) else None]

    def compared(record: Record) -> dict[str, str]:
        found = {fact.name: fact.value for fact in record.facts if fact.topic == topic}
        return {name: v for name, v in found.items() if not any(rule and rule.fullmatch(name) for rule in rules)}

    return keyed(section, compared(left), compared(right))
