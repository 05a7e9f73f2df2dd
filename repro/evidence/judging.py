"""Metrics that are compared and shown, and decide nothing: named by a tolerance without a limit, sealed with the run.

A time is another one in each run. Whether a number is one is said when the run is recorded, not when it is judged:
`repro record --unjudged`, the project's settings, or the recorder for what it reads from files and what is called so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Final

from repro.evidence.model import Tolerance

_WORDS: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
_OF_TIME: Final = frozenset(
    (
        *(
            "date",
            "datetime",
            "duration",
            "elapsed",
            "eta",
            "fps",
            "latency",
            "millis",
            "milliseconds",
            "minutes",
            "ms",
        ),
        *("runtime", "sec", "seconds", "secs", "throughput", "timestamp", "wallclock", "walltime"),
    )
)
"""Words that make any name they stand in the name of a time or a rate."""
_PER: Final = frozenset(("s", "sec", "second", "minute", "hour"))
_NUMBERED: Final = re.compile(r"#\d+$")


def without_limit(pattern: str) -> Tolerance:
    """Return what declares metrics unjudged.

    Args:
        pattern: A metric's name, or a pattern of names as a shell has it: `*seconds`.
    """
    return Tolerance(metric=pattern, absolute=math.inf)


def limits(tolerances: Iterable[Tolerance]) -> dict[str, float]:
    """Return the limit of each metric that has one."""
    return {tolerance.metric: tolerance.absolute for tolerance in tolerances if tolerance.absolute != math.inf}


def patterns(tolerances: Iterable[Tolerance]) -> tuple[str, ...]:
    """Return the names and patterns that were declared unjudged, sorted."""
    return tuple(sorted(tolerance.metric for tolerance in tolerances if tolerance.absolute == math.inf))


def is_unjudged(name: str, tolerances: Iterable[Tolerance]) -> bool:
    """Say whether a metric decides nothing. A limit for its very name counts more than a pattern.

    Args:
        name: As in `Metric.name`; `NAME#2`, which the same source told again, goes with `NAME`.
        tolerances: Those sealed with the original.
    """
    rows = tuple(tolerances)
    if name in limits(rows):
        return False
    first = _NUMBERED.sub("", name)
    return any(each in (name, first) or fnmatchcase(name, each) or fnmatchcase(first, each) for each in patterns(rows))


def looks_like_time(name: str) -> bool:
    """Say whether a metric is called like a time or a rate: `epoch_seconds`, `time/fps`, `samples_per_second`."""
    parts = [_words(part) for part in re.split(r"[/:]", _NUMBERED.sub("", name).partition("{")[0])]
    words = parts[-1]
    if any(word in _OF_TIME for word in words) or words[-1:] in (["time"], ["at"]):
        return True
    rate = any((before, after) == ("per", word) for before, after in pairwise(words) for word in _PER)
    return rate or ["time"] in parts[:-1]


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORDS.findall(text)]
