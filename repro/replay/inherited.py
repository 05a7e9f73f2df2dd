"""What a command inherits besides its variables: file mode mask, soft limits, usable CPUs, set as they were recorded.

They are set for the whole process while it records, so that every way of starting a command passes them on: the
recorder of the original ran under the same ones. The CPUs are set for the thread that asks, which starts the command.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from typing import Final

from repro.evidence.model import Record
from repro.replay.processor import numbers

LIMITS: Final = {
    "core": resource.RLIMIT_CORE,
    "memlock": resource.RLIMIT_MEMLOCK,
    "nofile": resource.RLIMIT_NOFILE,
    "stack": resource.RLIMIT_STACK,
}
"""Soft limits that a replay sets. The others bound time and memory, and would end the recorder, not only the run."""
_NEEDED_FILES: Final = 256
"""Descriptors that the recorder itself may need."""


@contextmanager
def as_recorded(record: Record) -> Iterator[None]:
    """Set mask, soft limits and CPUs as a run had them, as far as this user may, and put them back in the end."""
    mask = _mask(record.fact("environment", "umask"))
    limits = {name: resource.getrlimit(constant) for name, constant in LIMITS.items()}
    usable = os.sched_getaffinity(0)
    before = os.umask(0o077)
    os.umask(before if mask is None else mask)
    try:
        for name, (soft, hard) in limits.items():
            wanted = _soft(record.fact("environment", f"limit.{name}"))
            if wanted is not None and wanted != soft and not (name == "nofile" and 0 <= wanted < _NEEDED_FILES):
                _set(name, wanted, hard)
        _run_on(cpus(record.fact("hardware", "cpu_affinity") or "", usable))
        yield
    finally:
        os.umask(before)
        _run_on(usable)
        for name, (soft, hard) in limits.items():
            _set(name, soft, hard)


def within(recorded: str, here: str) -> bool:
    """Say whether the recorded soft limit may be set here; both are `SOFT:HARD`. What cannot be read may not."""
    wanted, hard = _soft(recorded), _soft(here.partition(":")[2])
    if wanted is None or hard is None:
        return False
    return hard == resource.RLIM_INFINITY or (wanted != resource.RLIM_INFINITY and wanted <= hard)


def cpus(recorded: str, usable: Set[int]) -> frozenset[int]:
    """Return as many of the usable CPUs as a run had: the same ones where they are usable; all where it had more.

    How many there are decides how many threads libraries start, and many a script how many workers.

    Args:
        recorded: A list such as `0-3,8`; where it cannot be read, all are returned.
        usable: The CPUs that this process may use.
    """
    wanted = numbers(recorded)
    same = sorted(wanted & usable)
    others = sorted(usable - wanted)
    return frozenset([*same, *others][: len(wanted) or len(usable)])


def _run_on(chosen: Set[int]) -> None:
    if chosen != os.sched_getaffinity(0):
        with suppress(OSError):  # the CPUs here have changed meanwhile: a condition names how many there were
            os.sched_setaffinity(0, chosen)


def _mask(text: str | None) -> int | None:
    try:
        return int(text, 8) & 0o777 if text else None
    except ValueError:
        return None


def _soft(text: str | None) -> int | None:
    """Return the first of `SOFT:HARD` as a number; `None` if it is none."""
    soft = (text or "").partition(":")[0]
    if soft == "unlimited":
        return resource.RLIM_INFINITY
    return int(soft) if soft.isdecimal() and len(soft) < 20 else None


def _set(name: str, soft: int, hard: int) -> None:
    with suppress(OSError, ValueError):  # beyond the hard limit: a condition has said so
        resource.setrlimit(LIMITS[name], (soft, hard))
