"""The chain of a process's trace, recomputed: a line that was changed, taken out or put in breaks it.

`docs/adr/0010-the-training-trace.md` defines the links.
"""

from __future__ import annotations

import hashlib
from typing import Final

BROKEN: Final = "broken"
"""What the record says of a chain in which a link does not follow from the one before."""


class Chain:
    """The chain of one log.

    Args:
        process_key: Whose log it is.
    """

    def __init__(self, process_key: str) -> None:
        self._last = f"repro trace 1 {process_key}"
        self.length = 0
        self.breaks = 0
        self.first_break = ""
        """The anchor, step and field where it breaks first."""

    @property
    def head(self) -> str:
        """The last link, or `BROKEN`."""
        return BROKEN if self.breaks else self._last

    def add(self, anchor: str, step: int, field: str, words: str, told: str) -> None:
        """Follow one event; after a break, go on from what it tells, so that one lost line is one break."""
        text = f"{self._last}\n{anchor}\n{step}\n{field}\n{words}"
        if hashlib.sha256(text.encode()).hexdigest() != told:
            self.breaks += 1
            self.first_break = self.first_break or f"{anchor}, step {step}, {field}"
        self._last = told
        self.length += 1
