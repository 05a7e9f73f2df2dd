"""Recorded text is hostile text: here it becomes something that a reader can see and nothing can obey."""

from __future__ import annotations

import unicodedata
from typing import Final

_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Control, format (direction marks, zero-width), surrogate, private use, line and paragraph separators."""


def visible(text: str) -> str:
    r"""Return text with every character that does not show replaced by its escape, such as `\n`, `\x1b`, `\u202e`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    if unicodedata.category(character) not in _INVISIBLE:
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
