"""Bytes that mean one thing: paths as text, canonical JSON, a strict JSON reader, digests.

Canonical JSON is RFC 8785 (JCS) without its hard part: there are no floating-point numbers, and integers stay within
±(2^53 - 1), so that every JSON reader in the world gives the same value. Other numbers travel as strings.
"""

from __future__ import annotations

import hashlib
import json
import operator
import os
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from json import encoder
from pathlib import Path
from typing import Any, Final, NoReturn

from repro.errors import AlteredError
from repro.evidence import hashing
from repro.evidence.model import CodeFile

MAX_INTEGER: Final = 2**53 - 1
MAX_DEPTH: Final = 32
MAX_BYTES: Final = 32 * 1024 * 1024

_quoted: Final[Callable[[Any], str]] = encoder.encode_basestring
"""Returns a text as JSON, which is canonical: what `json.dumps` writes each text with, where it need not be ASCII."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ESCAPE = re.compile(r"\\(\\|x[0-9a-f]{2})?")
_SURROGATE = re.compile("[\ud800-\udfff]")
# A string that never ends is swallowed whole, so that a hostile document is scanned once and not once per quote.
_BRACKET_OR_STRING = re.compile(r'[\[\]{}]|"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)


def encode_path(path: os.PathLike[str] | os.PathLike[bytes] | str | bytes) -> str:
    r"""Return a path as text that loses nothing: UTF-8, backslashes doubled, bytes that are not UTF-8 as `\xNN`."""
    raw = path if isinstance(path, bytes) else os.fsencode(path)
    if b"\\" in raw:  # hardly ever, and there are many
        raw = raw.replace(b"\\", b"\\\\")
    return raw.decode("utf-8", "backslashreplace")


def decode_path(text: str) -> bytes:
    """Return the bytes of a path that `encode_path` made text of.

    Raises:
        AlteredError: `encode_path` never makes this text.
    """
    try:
        if "\\" not in text:  # nearly every path, and there are many
            return text.encode()
        raw = b"".join(_decode_pieces(text))
    except (UnicodeEncodeError, ValueError):
        raise AlteredError(f"{text!r} is not an encoded path") from None
    if encode_path(raw) != text:
        raise AlteredError(f"{text!r} is not an encoded path: another text stands for the same bytes")
    return raw


def _decode_pieces(text: str) -> Iterable[bytes]:
    end = 0
    for escape in _ESCAPE.finditer(text):
        yield text[end : escape.start()].encode()
        if escape[1] is None:
            raise ValueError("a backslash that begins no escape")
        yield b"\\" if escape[1] == "\\" else bytes.fromhex(escape[1][1:])
        end = escape.end()
    yield text[end:].encode()


def storable(text: str) -> str:
    r"""Return text that UTF-8, JSON and SQL can hold: a lone surrogate becomes the six characters `\udXXX`."""
    if text.isascii():
        return text
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def dumps(value: object) -> bytes:
    """Return canonical JSON of strings, booleans, `None`, integers, lists, tuples and dictionaries.

    Raises:
        TypeError: A float, or another type that canonical JSON does not hold.
        ValueError: An integer beyond ±(2^53 - 1), a lone surrogate.
    """
    text = json.dumps(_ordered(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8")


def _ordered(value: object) -> object:
    match value:
        case None | bool() | str():
            return value
        case int():
            if abs(value) > MAX_INTEGER:
                raise ValueError(f"{value} is beyond ±(2^53 - 1): store it as a string")
            return value
        case list() | tuple():
            return [_ordered(item) for item in value]
        case dict():
            return {key: _ordered(value[key]) for key in sorted(value, key=_utf16)}
        case _:
            raise TypeError(f"canonical JSON does not hold a {type(value).__name__}")


def _utf16(key: object) -> bytes:
    if not isinstance(key, str):
        raise TypeError(f"canonical JSON does not hold a {type(key).__name__} as a key")
    return key.encode("utf-16-be")


def loads(data: bytes) -> Any:
    """Return the value of a JSON document, which may be hostile, in time and memory bounded by its size.

    Raises:
        AlteredError: Not UTF-8, a byte order mark, duplicate keys, any fraction, exponent, NaN or Infinity, an integer
            beyond ±(2^53 - 1), a lone surrogate, nesting deeper than 32, bytes after the end, or more than 32 MiB.
    """
    if len(data) > MAX_BYTES:
        raise AlteredError(f"the JSON document is too large: {len(data)} bytes, the limit is {MAX_BYTES}")
    try:
        text = data.decode("utf-8")
        _refuse_depth(text)
        value = json.loads(
            text,
            object_pairs_hook=_distinct,
            parse_int=_bounded,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
        )
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise AlteredError(f"not a strict JSON document: {error}") from None
    _refuse_surrogates(value)
    return value


def _refuse_depth(text: str) -> None:
    depth = 0
    for token in _BRACKET_OR_STRING.finditer(text):
        match token[0][0]:
            case "[" | "{":
                depth += 1
                if depth > MAX_DEPTH:
                    raise ValueError(f"nested deeper than {MAX_DEPTH}")
            case "]" | "}":
                depth -= 1
            case _:
                pass


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:80]!r} appears twice")
    return found


def _bounded(digits: str) -> int:
    if len(digits) > 17 or abs(int(digits)) > MAX_INTEGER:
        raise ValueError(f"the integer {digits[:20]} is beyond ±(2^53 - 1)")
    return int(digits)


def _refuse_number(token: str) -> NoReturn:
    raise ValueError(f"the number {token[:20]} is not an integer")


def _refuse_surrogates(value: object) -> None:
    match value:
        case str():
            if not value.isascii() and _SURROGATE.search(value):
                raise AlteredError("not a strict JSON document: a lone surrogate in a string")
        case list():
            for item in value:
                _refuse_surrogates(item)
        case dict():
            for key, item in value.items():
                _refuse_surrogates(key)
                _refuse_surrogates(item)
        case _:
            pass


def digest(data: bytes) -> str:
    """Return `sha256:` and the 64 hexadecimal digits of the SHA-256 of some bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def pairs_digest(texts: Sequence[str], others: Sequence[str | None]) -> str:
    """Return the digest of the canonical JSON of a sorted list of `[text, other]`, of which there may be many.

    Args:
        texts: The first of each pair.
        others: The second, in the same order.

    Raises:
        ValueError: A lone surrogate.
    """
    if any(map(operator.ge, texts, islice(texts, 1, None))):
        pairs = sorted(zip(texts, others, strict=True))
        texts, others = [text for text, _ in pairs], [other for _, other in pairs]
    return digest(_pairs(texts, others).encode())


def _pairs(texts: Sequence[str], others: Sequence[str | None]) -> str:
    ends = [other for other in others if other is not None]
    if texts and len(ends) == len(others) and _is_plain(texts) and _is_plain(ends):
        return '[["' + '"],["'.join(map('","'.join, zip(texts, ends, strict=True))) + '"]]'
    quoted = ("null" if other is None else _quoted(other) for other in others)
    return "[" + ",".join(f"[{_quoted(text)},{other}]" for text, other in zip(texts, quoted, strict=True)) + "]"


def _is_plain(texts: Iterable[str]) -> bool:
    """Say whether JSON writes each text as it is, between quotes."""
    together = "".join(texts)
    return len(_quoted(together)) == len(together) + 2


def digest_file(path: Path) -> tuple[str, int]:
    """Return a file's SHA-256 digest and its size in bytes; `repro.evidence.hashing` knows more of it.

    Raises:
        OSError: It cannot be read, or is no regular file.
        InconclusiveError: It changed while it was read, twice.
    """
    return hashing.digest_file(path)


def is_digest(text: str) -> bool:
    """Say whether text is `sha256:` and 64 lower-case hexadecimal digits."""
    return _DIGEST.fullmatch(text) is not None


def tree_digest(code_files: Iterable[CodeFile]) -> str:
    """Return the digest of a code tree: SHA-256 of the canonical JSON list of `[path, kind, mode, sha256]`, sorted."""
    return digest(dumps(sorted([file.path, file.kind, file.mode, file.sha256] for file in code_files)))
