"""What the agent told of determinism: settings that the training changed, operations without a deterministic way.

Facts of the topic `determinism`, numbered in the order in which they happened: `change.N` and `operation.N`. What the
settings were at the import of their library, at the first step and at the end is in the settings.
"""

from __future__ import annotations

from typing import Final

from repro.evidence.canonical import storable
from repro.record.capture import Context, Findings, observed
from repro.record.eventlog.kinds import Determinism

_FOLLOWS: Final = {"warned": "torch warned", "refused": "torch refused it, and the process ended"}


def after(context: Context) -> Findings:
    """Write a fact for each."""
    if context.events is None:
        return Findings()
    count = {"change": 0, "operation": 0}
    facts = []
    for row in context.events.determinism:
        count[row.kind] += 1
        facts.append(observed("determinism", f"{row.kind}.{count[row.kind]}", storable(_sentence(row))))
    return Findings(facts=tuple(facts))


def _sentence(row: Determinism) -> str:
    where = f"at {row.site} in {row.process_key}"
    if row.kind == "change":
        return f"{row.name}: {row.before} → {row.value} {where}"
    return f"{row.name} has no deterministic implementation: {_FOLLOWS.get(row.value, row.value)}, {where}"
