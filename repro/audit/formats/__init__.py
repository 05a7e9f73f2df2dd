"""Formats: one file per output. The file name is the format's name.

A format renders a report from its data and nothing else: no clock, no environment, no network. The same report gives
the same bytes, and text that was recorded stays text: it adds no element, no escape sequence, no formula.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from repro.audit.report import Report


class Format(Protocol):
    """What a file in this folder offers."""

    SUFFIX: str
    """Of the file, with its dot: `.json`."""

    def render(self, report: Report) -> bytes:
        """Return the file's content."""
        ...
