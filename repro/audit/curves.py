"""Metric curves as numbers that any renderer can draw: points thinned out, axes with round ticks, paths for SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

LIMIT: Final = 600
"""Points of a curve that are drawn: about one a pixel."""
WIDTH: Final = 760
HEIGHT: Final = 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 14, 34

Point = tuple[int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A mark on an axis."""

    at: str
    """Pixels from the left or the top."""
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A drawing of one metric. All coordinates are pixels within `WIDTH` by `HEIGHT`, as text."""

    original: str
    """Path data of the record's curve."""
    replay: str
    """Path data of the replay's curve; empty where there is none."""
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    marker: str | None
    """Where the first differing step lies."""
    unfinite: tuple[str, ...]
    """Where values lie that are no number or infinite: they cannot be drawn, and must not vanish."""
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = HEIGHT - _BOTTOM


def thin(points: Sequence[Point], limit: int = LIMIT) -> tuple[Point, ...]:
    """Return at most `limit` points that keep the first, the last, and every stretch's lowest and highest value.

    A value that is no number counts as the highest of its stretch, so that it is not lost.
    """
    if len(points) <= limit:
        return tuple(points)
    stretches = (limit - 2) // 2
    inner = len(points) - 2
    kept = {0, len(points) - 1}
    for stretch in range(stretches):
        start, end = 1 + inner * stretch // stretches, 1 + inner * (stretch + 1) // stretches
        indices = range(start, end)
        kept |= {min(indices, key=lambda i: _low(points[i][1])), max(indices, key=lambda i: _high(points[i][1]))}
    return tuple(points[i] for i in sorted(kept))


def _low(value: float) -> float:
    return math.inf if math.isnan(value) else value


def _high(value: float) -> float:
    return math.inf if math.isnan(value) else value


def plot(
    original: Sequence[Point], replay: Sequence[Point], *, marker: int | None, steps: bool, last_step: int
) -> Plot:
    """Lay out a drawing of one metric.

    Args:
        original: Steps and values of the record.
        replay: Likewise of the replay; empty where there is none.
        marker: The first differing step.
        steps: Draw a value as lasting until the next one, as for a learning rate.
        last_step: Where such a drawing ends.
    """
    if steps:
        original, replay = _prolonged(original, last_step), _prolonged(replay, last_step)
    both = (*original, *replay)
    horizontal = _Axis.over([float(step) for step, _ in both], _LEFT, WIDTH - _RIGHT, tight=True)
    vertical = _Axis.over([value for _, value in both if math.isfinite(value)], HEIGHT - _BOTTOM, _TOP, tight=False)
    return Plot(
        original=_path(original, horizontal, vertical, steps),
        replay=_path(replay, horizontal, vertical, steps),
        x_ticks=tuple(horizontal.ticks(whole=True)),
        y_ticks=tuple(vertical.ticks(whole=False)),
        marker=None if marker is None else _pixels(horizontal.at(marker)),
        unfinite=tuple(_pixels(horizontal.at(step)) for step, value in both if not math.isfinite(value))[:LIMIT],
    )


def _prolonged(points: Sequence[Point], last_step: int) -> Sequence[Point]:
    return (*points, (last_step, points[-1][1])) if points and points[-1][0] < last_step else points


@dataclass(frozen=True, slots=True)
class _Axis:
    low: float
    high: float
    start: float
    end: float

    @classmethod
    def over(cls, values: Iterable[float], start: float, end: float, *, tight: bool) -> _Axis:
        """Return an axis that holds all values; one value alone gets room around it."""
        known = list(values) or [0.0, 1.0]
        low, high = min(known), max(known)
        room = 0.0 if tight and high > low else (high / 2 - low / 2) * 0.1 or abs(high) * 0.1 or 1.0
        low, high = max(low - room, -1.7e308), min(high + room, 1.7e308)
        return cls(low, high, start, end)

    def at(self, value: float) -> float:
        """Return where a value lies; halves keep the span of the largest floats finite."""
        share = (value / 2 - self.low / 2) / (self.high / 2 - self.low / 2)
        return self.start + share * (self.end - self.start)

    def ticks(self, *, whole: bool) -> Iterator[Tick]:
        """Yield four to eight round marks."""
        step = _round_step((self.high / 2 - self.low / 2) / 3)
        if whole:
            step = max(1.0, step)
        first = math.ceil(self.low / step)
        for count in range(first, first + 12):
            value = count * step
            if value > self.high:
                return
            yield Tick(at=_pixels(self.at(value)), label=_label(value))


def _round_step(rough: float) -> float:
    """Return 1, 2 or 5 times a power of ten, no smaller than a rough step."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next((power * nice for nice in (1.0, 2.0, 5.0) if power * nice >= rough), power * 10.0)


def _label(value: float) -> str:
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}"
    return f"{value:.6g}"


def _pixels(position: float) -> str:
    return f"{position:.1f}"


def _path(points: Sequence[Point], horizontal: _Axis, vertical: _Axis, steps: bool) -> str:
    """Return SVG path data; a value that cannot be drawn interrupts the line."""
    parts: list[str] = []
    drawing = False
    for step, value in points:
        if not math.isfinite(value):
            drawing = False
            continue
        x, y = _pixels(horizontal.at(step)), _pixels(vertical.at(value))
        if drawing and steps:
            parts.append(f"H{x}V{y}")
        else:
            parts.append(f"{'L' if drawing else 'M'}{x} {y}")
        drawing = True
    if drawing and len(parts) == 1:
        parts.append("h0.1")  # a single value is a dot, where the line's caps are round
    return "".join(parts)
