"""The values of an event's fields: what is not of the type that `schemas/event-1.json` gives it is refused."""

from __future__ import annotations

import math
from typing import Any, Final

from repro.evidence.canonical import storable
from repro.evidence.model import Moment

_MAX_BIGINT: Final = 2**63 - 1
_MOMENTS: Final = ("import", "first-step", "end")
_HEXADECIMAL: Final = b"0123456789abcdef"
_WORD: Final = 16
"""Characters of a fingerprint."""


def text(value: object) -> str:
    """Return a text that can be stored.

    Raises:
        TypeError: It is none.
    """
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value if value.isascii() else storable(value)


def words(value: object) -> tuple[str, ...]:
    """Return a list of texts that can be stored.

    Raises:
        TypeError: It is none.
    """
    if not isinstance(value, list):
        raise TypeError("not a list")
    return tuple(text(word) for word in value)


def integer(value: object, *, limit: int = _MAX_BIGINT) -> int:
    """Return a count from 0.

    Raises:
        TypeError: It is none, or larger than the limit.
    """
    if type(value) is not int or not 0 <= value <= limit:
        raise TypeError("not a count")
    return value


def maybe_integer(value: object, *, limit: int = _MAX_BIGINT) -> int | None:
    """Return a count from 0, or `None`.

    Raises:
        TypeError: It is neither, or larger than the limit.
    """
    return None if value is None else integer(value, limit=limit)


def real(value: object) -> float:
    """Return a finite number.

    Raises:
        TypeError: It is none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TypeError("not a finite number")
    return float(value)


def named_moment(value: Any) -> Moment:
    """Return the name of a moment.

    Raises:
        ValueError: It is none.
    """
    moment: Moment = value
    if value not in _MOMENTS:
        raise ValueError("not a moment")
    return moment


def shape(value: object) -> str:
    """Return the extents of a tensor as text, such as `[64, 3]`.

    Raises:
        TypeError: It is no list of counts.
    """
    if not isinstance(value, list):
        raise TypeError("not a shape")
    return str([integer(length) for length in value])


def maybe_digest(value: object) -> str | None:
    """Return a digest, or `None`.

    Raises:
        TypeError: It is neither, nor a text.
        ValueError: It is a text of another form.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError("not a text")
    if not value.startswith("sha256:"):
        raise ValueError("not a digest")
    return f"sha256:{link(value.removeprefix('sha256:'))}"


def link(value: object) -> str:
    """Return a SHA-256: 64 hexadecimal digits.

    Raises:
        TypeError: It is no text.
        ValueError: It is no such text.
    """
    if not isinstance(value, str):
        raise TypeError("not a text")
    if len(value) != 64 or not _is_hexadecimal(value):
        raise ValueError("not a SHA-256")
    return value


def fingerprints(value: object) -> str:
    """Return a text of fingerprints: groups of 16 hexadecimal digits, or of 16 dashes.

    Raises:
        TypeError: It is no text.
        ValueError: It is no such text.
    """
    if not isinstance(value, str):
        raise TypeError("not a text")
    if len(value) % _WORD or not (_is_hexadecimal(value) or all(map(_is_word, _split(value)))):
        raise ValueError("not fingerprints")
    return value


def _split(value: str) -> list[str]:
    return [value[start : start + _WORD] for start in range(0, len(value), _WORD)]


def _is_word(word: str) -> bool:
    return word == "-" * _WORD or _is_hexadecimal(word)


def _is_hexadecimal(value: str) -> bool:
    """Say whether there is nothing but lower-case digits: an expression takes ten times as long, and there is much."""
    return value.isascii() and not value.encode().translate(None, _HEXADECIMAL)
