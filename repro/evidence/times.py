"""Times as the manifest has them: UTC, ISO 8601 with microseconds and a `Z`."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache


def utc(seconds: float) -> str:
    """Return a time, in seconds since the epoch; what no calendar has is the epoch itself."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    except (OverflowError, ValueError, OSError):
        return utc(0.0)


def utc_ns(nanoseconds: int) -> str:
    """Return a time of a file, in nanoseconds since the epoch, cut to microseconds: a float would round it."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    second = _second(seconds)
    return utc(0.0) if second is None else f"{second}.{rest // 1000:06}Z"


@lru_cache(maxsize=4096)
def _second(seconds: int) -> str | None:
    """Return a whole second; the files of a data set have few."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return None
