"""Where two traces part: every metric of every process, step by step, bit by bit.

Bits are shown in the type that the number had in the run: float32 as 8 hexadecimal digits, float16 and bfloat16 as 4,
float64 as 16 (IEEE 754 binary interchange formats, big-endian; bfloat16 is the upper half of float32). Distances are
counted in units in the last place: how many steps from one representable value to the next lie between the two.
"""

from __future__ import annotations

import re
import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite, isnan
from typing import Final

from repro.evidence.model import Metric, Record

Key = tuple[str, str]
"""Process key and metric name."""

_STEP_FUNCTION: Final = re.compile(r"(^|\.)learning_rate\.\d+$")
_WIDTHS: Final = {"float64": 64, "float32": 32, "float16": 16, "bfloat16": 16}
_FORMATS: Final = {"float64": ">d", "float32": ">f", "float16": ">e", "bfloat16": ">f"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """Two values of one metric at one step which are not the same bits."""

    step: int
    left: float
    right: float
    left_decimal: str
    """The shortest decimal that means the value in the metric's own type."""
    right_decimal: str
    left_bits: str
    """Hexadecimal digits in the metric's own type."""
    right_bits: str
    ulps: int | None
    """Units in the last place between them; `None` where the types differ, have none, or a value is not a number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricComparison:
    """One metric of one process, on both sides."""

    process_key: str
    name: str
    dtypes: tuple[str, ...]
    """Types seen on either side, sorted; one entry where they agree."""
    left_steps: int
    right_steps: int
    compared_steps: int
    """Steps at which both sides have a value."""
    equal_steps: int
    """Of these, the steps with equal bits."""
    first: Divergence | None
    """The first step with different bits."""
    largest_difference: float | None
    """Largest absolute difference over the compared steps; `None` where a differing pair has no finite difference."""
    largest_at: int | None
    missing_left: tuple[int, ...]
    """The first steps that only the right side has, at most five."""
    missing_right: tuple[int, ...]
    missing_steps: int
    """How many steps only one side has."""
    step_function: bool
    """Logged on change only, hence compared as a function of the step that keeps its last value."""

    @property
    def equal(self) -> bool:
        """Whether every step is there on both sides with the same bits."""
        return self.first is None and not self.missing_steps


@dataclass(frozen=True, slots=True)
class _Series:
    steps: Sequence[int]
    values: array[float]
    dtypes: Sequence[str]


def compare_metrics(left: Record, right: Record, *, cut_short: bool = False) -> tuple[MetricComparison, ...]:
    """Compare every metric that either record has, sorted by process and name.

    Args:
        left: One run.
        right: The other run.
        cut_short: Whether one of them may have ended early, so that the last value which a side logged on change says
            nothing about later steps.
    """
    ours, theirs = _series(left.metrics), _series(right.metrics)
    return tuple(
        _compare(key, ours.get(key, _EMPTY), theirs.get(key, _EMPTY), cut_short) for key in sorted({*ours, *theirs})
    )


def bits(value: float, dtype: str) -> str:
    """Return the bits of a value in its own type, as hexadecimal digits.

    Args:
        value: The number.
        dtype: `float64`, `float32`, `float16` or `bfloat16`. Any other type, and a value which that type cannot hold,
            is shown as float64.
    """
    digits = _WIDTHS.get(dtype, 64) // 4
    try:
        packed = struct.pack(_FORMATS.get(dtype, ">d"), value)
    except OverflowError:
        return struct.pack(">d", value).hex()
    kept = packed.hex()[:digits].ljust(len(packed) * 2, "0")
    held = struct.unpack(_FORMATS.get(dtype, ">d"), bytes.fromhex(kept))[0]
    if held != value and not isnan(value):
        return struct.pack(">d", value).hex()
    return kept[:digits]


def decimal(value: float, dtype: str) -> str:
    """Return the shortest decimal that means this value in its own type: `0.1` for the float32 nearest to it."""
    exact = bits(value, dtype)
    if len(exact) == _WIDTHS.get(dtype, 64) // 4:
        for digits in range(6, 10):
            text = f"{value:.{digits}g}"
            if _nearest(text, dtype) == exact:
                return repr(float(text)) if dtype != "float64" else repr(value)
    return repr(value)


def _nearest(text: str, dtype: str) -> str:
    """Return the bits that a decimal rounds to in a type; empty where that is not simply told."""
    if dtype not in ("float32", "float16"):
        return ""
    try:
        return struct.pack(_FORMATS[dtype], float(text)).hex()
    except OverflowError:
        return ""


def ulps(left: str, right: str) -> int | None:
    """Count the steps between two finite bit patterns of one type; `None` if their lengths differ."""
    return abs(_rank(left) - _rank(right)) if len(left) == len(right) else None


def _rank(pattern: str) -> int:
    """Number the representable values in order, with both zeros at 0."""
    number, sign = int(pattern, 16), 1 << (len(pattern) * 4 - 1)
    return -(number & (sign - 1)) if number & sign else number


def _series(metrics: Iterable[Metric]) -> dict[Key, _Series]:
    found: dict[Key, tuple[list[int], list[float], list[str]]] = {}
    for metric in metrics:
        steps, values, dtypes = found.setdefault((metric.process_key, metric.name), ([], [], []))
        steps.append(metric.step)
        values.append(metric.value)
        dtypes.append(metric.dtype)
    return {key: _sorted(*columns) for key, columns in found.items()}


def _sorted(steps: list[int], values: list[float], dtypes: list[str]) -> _Series:
    if all(before < after for before, after in pairwise(steps)):
        return _Series(steps, array("d", values), dtypes)
    order = sorted(range(len(steps)), key=steps.__getitem__)
    return _Series([steps[i] for i in order], array("d", [values[i] for i in order]), [dtypes[i] for i in order])


_EMPTY: Final = _Series([], array("d"), [])


def _compare(key: Key, left: _Series, right: _Series, cut_short: bool) -> MetricComparison:
    step_function = bool(_STEP_FUNCTION.search(key[1]))
    steps, lefts, rights = _extended(left, right, cut_short) if step_function else _shared(left, right)
    differing = _differing(left, right, lefts, rights)
    pairs = [(steps[i], lefts[i], rights[i]) for i in differing]
    largest, largest_at = _largest(left, right, pairs) if steps else (None, None)
    missing_left, missing_right = _missing(left, right, step_function=step_function)
    return MetricComparison(
        process_key=key[0],
        name=key[1],
        dtypes=tuple(sorted({*left.dtypes, *right.dtypes})),
        left_steps=len(left.steps),
        right_steps=len(right.steps),
        compared_steps=len(steps),
        equal_steps=len(steps) - len(differing),
        first=_divergence(left, right, *pairs[0]) if pairs else None,
        largest_difference=largest,
        largest_at=largest_at,
        missing_left=missing_left[:5],
        missing_right=missing_right[:5],
        missing_steps=len(missing_left) + len(missing_right),
        step_function=step_function,
    )


def _shared(left: _Series, right: _Series) -> tuple[Sequence[int], Sequence[int], Sequence[int]]:
    """Return the steps that both have, and the positions of each in both."""
    if left.steps == right.steps:
        everywhere = range(len(left.steps))
        return left.steps, everywhere, everywhere
    positions = {step: position for position, step in enumerate(right.steps)}
    pairs = [(step, i, positions[step]) for i, step in enumerate(left.steps) if step in positions]
    return [p[0] for p in pairs], [p[1] for p in pairs], [p[2] for p in pairs]


def _extended(left: _Series, right: _Series, cut_short: bool) -> tuple[Sequence[int], Sequence[int], Sequence[int]]:
    """Like `_shared`, but each side keeps its last value until it logs another."""
    if not left.steps or not right.steps:
        return [], [], []
    start, latest = max(left.steps[0], right.steps[0]), max(left.steps[-1], right.steps[-1])
    end = min(left.steps[-1], right.steps[-1]) if cut_short else latest
    steps = [step for step in sorted({*left.steps, *right.steps}) if start <= step <= end]
    return (
        steps,
        [bisect_right(left.steps, step) - 1 for step in steps],
        [bisect_right(right.steps, step) - 1 for step in steps],
    )


def _missing(left: _Series, right: _Series, *, step_function: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the steps that are missing on the left and on the right."""
    if left.steps == right.steps:
        return (), ()
    if not step_function:
        ours, theirs = set(left.steps), set(right.steps)
        return tuple(sorted(theirs - ours)), tuple(sorted(ours - theirs))
    # Once both have begun, a step function has a value at every later step.
    return (
        tuple(step for step in right.steps if not left.steps or step < left.steps[0]),
        tuple(step for step in left.steps if not right.steps or step < right.steps[0]),
    )


def _differing(left: _Series, right: _Series, lefts: Sequence[int], rights: Sequence[int]) -> list[int]:
    """Return the positions of the compared pairs whose bits or types differ."""
    ours, theirs = _patterns(left.values), _patterns(right.values)
    one_type = len({*left.dtypes, *right.dtypes}) <= 1
    if one_type and lefts is rights and ours == theirs:
        return []
    return [
        position
        for position, (i, j) in enumerate(zip(lefts, rights, strict=True))
        if ours[i] != theirs[j] or (not one_type and left.dtypes[i] != right.dtypes[j])
    ]


def _patterns(values: array[float]) -> memoryview:
    """View the float64 bits as integers: a narrower float widens to exactly one float64."""
    return memoryview(values).cast("B").cast("Q")


def _divergence(left: _Series, right: _Series, step: int, i: int, j: int) -> Divergence:
    ours, theirs = bits(left.values[i], left.dtypes[i]), bits(right.values[j], right.dtypes[j])
    same_type = left.dtypes[i] == right.dtypes[j]
    return Divergence(
        step=step,
        left=left.values[i],
        right=right.values[j],
        left_decimal=decimal(left.values[i], left.dtypes[i]),
        right_decimal=decimal(right.values[j], right.dtypes[j]),
        left_bits=ours,
        right_bits=theirs,
        ulps=_distance(ours, theirs, left.values[i], right.values[j]) if same_type else None,
    )


def _distance(ours: str, theirs: str, left: float, right: float) -> int | None:
    return ulps(ours, theirs) if isfinite(left) and isfinite(right) else None


def _largest(left: _Series, right: _Series, pairs: Iterable[tuple[int, int, int]]) -> tuple[float | None, int | None]:
    largest, at = 0.0, None
    for step, i, j in pairs:
        difference = abs(left.values[i] - right.values[j])
        if not isfinite(difference):
            return None, step
        if difference > largest:
            largest, at = difference, step
    return largest, at
