"""How far apart two models are, estimated from the sketches of their weights.

A sketch is a count sketch of eight places (docs/adr/0010-the-training-trace.md; Charikar, Chen and Farach-Colton 2002):
the sum of the squared differences of the places estimates the squared distance of the weights without bias, and the sum
of a sketch's own squares their squared norm. With eight places an estimate is right within a factor of about 2.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import hypot, isfinite, sqrt
from typing import Final

from repro.audit.trace.pairs import SKETCH, Pair

_PLACES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """How far apart the weights are after a step."""

    step: int
    relative: float | None
    """The estimated distance, divided by the quadratic mean of both norms; `None` where a weight is not finite."""


def drifts(pair: Pair) -> tuple[Drift, ...]:
    """Return the distance at the first step whose sketches differ and at the last with sketches; none if all agree."""
    told = [(step, found) for step in pair.shared if (found := pair.words(step, (SKETCH, 0))) is not None]
    first = next((step for step, (ours, theirs) in told if ours != theirs), None)
    if first is None:
        return ()
    places = dict(told)
    return tuple(Drift(step=step, relative=relative(*places[step])) for step in sorted({first, told[-1][0]}))


def relative(left: str, right: str) -> float | None:
    """Estimate the relative distance of two models from their sketches.

    Args:
        left: Big-endian bits of 8 float64, as 128 hexadecimal digits.
        right: Likewise.

    Returns:
        `None` where a sketch is not told, or holds what is not finite.
    """
    ours, theirs = _numbers(left), _numbers(right)
    if not ours or not theirs:
        return None
    norm = hypot(*ours, *theirs) / sqrt(2)
    distance = hypot(*(x - y for x, y in zip(ours, theirs, strict=True)))
    if not isfinite(norm) or not isfinite(distance):
        return None
    return distance / norm if norm else 0.0


def _numbers(words: str) -> tuple[float, ...]:
    try:
        return struct.unpack(f">{_PLACES}d", bytes.fromhex(words))
    except (ValueError, struct.error):
        return ()
