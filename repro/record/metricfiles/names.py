"""Names for files of metrics that come out the same on a replay, where folders are often named by the time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Final

_BY_CHANCE: Final = re.compile(
    r"[0-9]{4}-?[0-9]{2}-?[0-9]{2}|[0-9]{2}([-_.:]?)[0-9]{2}\1[0-9]{2}|(?=([a-z]*[0-9]){3})[0-9a-z]{8,}"
)
"""What dates, times and identifiers look like in names."""


def names_of(paths: Sequence[str]) -> list[str]:
    """Return for each path the fewest of its last parts that no other path ends with.

    Args:
        paths: In the order in which the run began to write them. Where only a date or the like tells two apart, they
            are numbered in this order: `metrics.csv`, `metrics.csv#2`.
    """
    found: list[str] = []
    numbers: Counter[str] = Counter()
    for path in paths:
        name = _shortest(path, (other for other in paths if other != path))
        folder, _, last = name.rpartition("/")
        if _BY_CHANCE.search(folder):
            numbers[last] += 1
            name = last if numbers[last] == 1 else f"{last}#{numbers[last]}"
        found.append(name)
    return found


def _shortest(path: str, others: Iterable[str]) -> str:
    parts = path.strip("/").split("/")
    count = 1
    for other in others:
        pairs = zip(reversed(parts), reversed(other.strip("/").split("/")), strict=False)
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        count = max(count, same + 1)
    return "/".join(parts[-count:])
