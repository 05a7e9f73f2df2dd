"""What a command inherits besides its variables: the file mode mask and the soft limits, set as they were recorded.

They are set for the whole process while it records, so that every way of starting a command passes them on: the
recorder of the original ran under the same ones.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from repro.evidence.model import Record

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
    """Set mask and soft limits as a run had them, as far as this user may, and put them back in the end."""
    mask = _mask(record.fact("environment", "umask"))
    limits = {name: resource.getrlimit(constant) for name, constant in LIMITS.items()}
    before = os.umask(0o077)
    os.umask(before if mask is None else mask)
    try:
        for name, (soft, hard) in limits.items():
            wanted = _soft(record.fact("environment", f"limit.{name}"))
            if wanted is not None and wanted != soft and not (name == "nofile" and 0 <= wanted < _NEEDED_FILES):
                _set(name, wanted, hard)
        yield
    finally:
        os.umask(before)
        for name, (soft, hard) in limits.items():
            _set(name, soft, hard)


def within(recorded: str, here: str) -> bool:
    """Say whether the recorded soft limit may be set here; both are `SOFT:HARD`. What cannot be read may not."""
    wanted, hard = _soft(recorded), _soft(here.partition(":")[2])
    if wanted is None or hard is None:
        return False
    return hard == resource.RLIM_INFINITY or (wanted != resource.RLIM_INFINITY and wanted <= hard)


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
