"""The clocks, as they were when the agent woke: out of reach of what freezes time, which patches `time` in all modules.

freezegun replaces the functions of `time` wherever a module has them; a default argument is no module's.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def monotonic(read: Callable[[], float] = time.monotonic) -> float:
    """Return seconds by a clock that never goes back."""
    return read()


def precise(read: Callable[[], float] = time.perf_counter) -> float:
    """Return seconds by the clock of the highest resolution."""
    return read()


def wall(read: Callable[[], float] = time.time) -> float:
    """Return seconds since 1970, UTC."""
    return read()


def wall_ns(read: Callable[[], int] = time.time_ns) -> int:
    """Return nanoseconds since 1970, UTC."""
    return read()
