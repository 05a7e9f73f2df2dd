"""Which gaps leave part of a comparison open: what was not seen there may differ."""

from __future__ import annotations

from typing import Final

from repro.evidence.model import Gap

_FINGERPRINTS: Final = (
    *("fingerprint", "parameter names", "schedule", "order", "batch", "rng.", "sketch", "optimizer.", "backward"),
    "checkpoint",
)
"""How the subjects of gaps begin that tell what the trace could not make a fingerprint of."""
_BESIDES: Final = "operations"
"""The subject of gaps in the operations of a step, which no verdict looks at."""


def hides_something(gap: Gap) -> bool:
    """Say whether a gap leaves part of the comparison open. A rate that was not read shows in the losses it makes."""
    rate_alone = gap.topic == "trace" and ("learning_rate" in gap.subject or gap.subject == _BESIDES)
    return gap.topic in ("trace", "agent") and not rate_alone and not of_fingerprints(gap)


def of_fingerprints(gap: Gap) -> bool:
    """Say whether a gap is of fingerprints alone, not of losses and not of the chain of what was told."""
    return gap.topic == "trace" and gap.subject.startswith(_FINGERPRINTS) and "learning_rate" not in gap.subject
