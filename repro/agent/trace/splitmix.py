"""SplitMix64 (Steele, Lea, Flood 2014), the source of the fingerprint's multipliers: by Python, NumPy and torch."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MASK = 0xFFFFFFFFFFFFFFFF

_GAMMA = 0x9E3779B97F4A7C15
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def odd_output(seed: int, index: int) -> int:
    """Return output `index` (from 0) of the generator, with its lowest bit set."""
    state = (seed + (index + 1) * _GAMMA) & MASK
    state = ((state ^ (state >> 30)) * _FIRST) & MASK
    state = ((state ^ (state >> 27)) * _SECOND) & MASK
    return state ^ (state >> 31) | 1


def odd_outputs_of_numpy(numpy: Any, seed: int, count: int) -> Any:
    """Return the first `count` such outputs as an array of uint64, shape (count,)."""
    word = numpy.uint64
    state = numpy.arange(1, count + 1, dtype=word) * word(_GAMMA) + word(seed)
    state = (state ^ (state >> word(30))) * word(_FIRST)
    state = (state ^ (state >> word(27))) * word(_SECOND)
    return state ^ (state >> word(31)) | word(1)


def odd_outputs_of_torch(torch: Any, seed: int, count: int, device: Any) -> Any:
    """Return the first `count` such outputs, made on the device, as a tensor of int64 with the bits of uint64."""
    state = torch.arange(1, count + 1, dtype=torch.int64, device=device) * signed(_GAMMA) + seed
    state = (state ^ shifted(state, 30)) * signed(_FIRST)
    state = (state ^ shifted(state, 27)) * signed(_SECOND)
    return state ^ shifted(state, 31) | 1


def shifted(words: Any, places: int) -> Any:
    """Return a tensor of int64 shifted right as if it were uint64: torch's own shift copies the sign."""
    return (words >> places) & (MASK >> places)


def signed(word: int) -> int:
    """Return the int64 with the bits of a uint64."""
    return word - (1 << 64) if word >> 63 else word
