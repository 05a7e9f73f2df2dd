from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repro.errors import AlteredError, ReproError
from repro.evidence import canonical
from repro.evidence.model import CodeFile

INTEGERS = st.integers(-canonical.MAX_INTEGER, canonical.MAX_INTEGER)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | INTEGERS | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=20,
)


@given(st.binary())
def test_a_path_survives_being_text(raw: bytes) -> None:
    text = canonical.encode_path(raw)
    text.encode()  # never a surrogate
    assert raw == canonical.decode_path(text)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"a b", "a b"),
        ("ä/✓".encode(), "ä/✓"),
        (b"a\\b", "a\\\\b"),
        (b"\xff\\xff", "\\xff\\\\xff"),
        (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),
        (b"new\nline", "new\nline"),
    ],
)
def test_a_path_as_text(raw: bytes, text: str) -> None:
    assert text == canonical.encode_path(raw)
    assert text == canonical.encode_path(os.fsdecode(raw))
    assert text == canonical.encode_path(Path(os.fsdecode(raw)))


@given(st.text())
def test_any_text_is_one_path_or_none(text: str) -> None:
    try:
        raw = canonical.decode_path(text)
    except AlteredError:
        return
    assert text == canonical.encode_path(raw)


@pytest.mark.parametrize("text", ["\\", "\\x4", "\\x41", "\\xFF", "\\n", "a\\", "\\xc3\\xa4", "\ud800"])
def test_what_is_not_an_encoded_path(text: str) -> None:
    with pytest.raises(AlteredError, match="not an encoded path"):
        canonical.decode_path(text)


@given(VALUES)
def test_canonical_json_survives_a_round_trip(value: Any) -> None:
    data = canonical.dumps(value)
    assert value == canonical.loads(data)
    assert data == canonical.dumps(canonical.loads(data))
    assert value == json.loads(data)


def test_canonical_json_is_that_of_rfc_8785() -> None:
    # The example of RFC 8785, section 3.2.3, for the order of keys by UTF-16 code units, and 3.2.2.2 for strings.
    value = {"€": 1, "\r": 2, "\ufb33": 3, "1": 4, "😀": 5, "\x80": 6, "ö": 7}
    assert '{"\\r":2,"1":4,"\x80":6,"ö":7,"€":1,"😀":5,"\ufb33":3}'.encode() == canonical.dumps(value)
    assert '"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/\x7f"'.encode() == canonical.dumps('€$\x0f\nA\'B"\\\\"/\x7f')
    assert b"[null,true,false,-1,[]]" == canonical.dumps((None, True, False, -1, ()))


@pytest.mark.parametrize("value", [1.0, b"", {1: 2}, {"a": {3.5}}, object()])
def test_canonical_json_does_not_hold(value: object) -> None:
    with pytest.raises(TypeError, match="does not hold"):
        canonical.dumps(value)


@pytest.mark.parametrize("value", [2**53, -(2**53), "\ud800", {"\udfff": 1}])
def test_canonical_json_refuses(value: object) -> None:
    with pytest.raises(ValueError, match=r"beyond|surrogates"):
        canonical.dumps(value)


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_the_reader_raises_nothing_but_our_errors(data: bytes) -> None:
    try:
        value = canonical.loads(data)
    except ReproError:
        return
    assert value == json.loads(data)


@given(st.text('{}[]"\\,:0123456789-.eEnulltrfasu \n'))
def test_the_reader_never_takes_more_than_json(text: str) -> None:
    try:
        value = canonical.loads(text.encode())
    except ReproError:
        return
    assert value == json.loads(text)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "Expecting value"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b"{} {}", "Extra data"),
        (b'{"a":1,"b":2,"a":3}', "'a' appears twice"),
        (b'{"a":{"b":1,"\\u0062":2}}', "'b' appears twice"),
        (b"1.5", "not an integer"),
        (b"1e3", "not an integer"),
        (b"NaN", "not an integer"),
        (b"-Infinity", "not an integer"),
        (b"9007199254740992", "beyond"),
        (b"-" + b"9" * 5000, "beyond"),
        (b'"\\ud800"', "surrogate"),
        (b'{"\\udc00":[]}', "surrogate"),
        (b'[["\\ud83d"]]', "surrogate"),
        (b'"\xff"', "utf-8"),
        (b"[" * 33 + b"]" * 33, "deeper than 32"),
        (b'{"a":' * 200_000, "deeper than 32"),
        (b'"tab\t"', "control character"),
    ],
)
def test_the_reader_refuses(data: bytes, why: str) -> None:
    with pytest.raises(AlteredError, match=why):
        canonical.loads(data)


def test_the_reader_takes_what_is_just_allowed() -> None:
    assert 2**53 - 1 == canonical.loads(b"9007199254740991")
    assert "😀" == canonical.loads(b'"\\ud83d\\ude00"')
    assert "[{" * 40 == canonical.loads(b'"' + b"[{" * 40 + b'"')
    assert canonical.loads(b"[" * 32 + b"]" * 32) == json.loads(b"[" * 32 + b"]" * 32)


def test_the_reader_is_not_slow_on_strings_that_never_end() -> None:
    # A scanner that starts anew at each quote would need hours for these four megabytes.
    with pytest.raises(AlteredError, match="strict JSON"):
        canonical.loads(b'"\\' * 2_000_000)


def test_the_reader_refuses_a_document_that_is_too_large() -> None:
    with pytest.raises(AlteredError, match="too large"):
        canonical.loads(b" " * (canonical.MAX_BYTES + 1))


@given(st.text())
def test_any_text_becomes_storable(text: str) -> None:
    canonical.storable(text).encode()
    assert text == canonical.storable(text) or any("\ud800" <= c <= "\udfff" for c in text)


def test_digests(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"abc")
    expected = f"sha256:{hashlib.sha256(b'abc').hexdigest()}"
    assert expected == canonical.digest(b"abc")
    assert (expected, 3) == canonical.digest_file(file)
    assert canonical.is_digest(expected)
    for text in ("", expected.upper(), expected + "\n", expected[:-1], expected.replace("sha256", "sha1")):
        assert not canonical.is_digest(text)


def test_a_tree_digest_depends_on_everything_but_order_and_state() -> None:
    def file(**changes: Any) -> CodeFile:
        plain = CodeFile(path="a", kind="file", mode=0o644, size_bytes=1, sha256=canonical.digest(b"x"), state="plain")
        return dataclasses.replace(plain, **changes)

    digest = canonical.tree_digest([file(), file(path="b")])
    expected = canonical.dumps(
        [["a", "file", 0o644, canonical.digest(b"x")], ["b", "file", 0o644, canonical.digest(b"x")]]
    )
    assert canonical.digest(expected) == digest
    assert digest == canonical.tree_digest([file(path="b"), file(state="modified")])
    for change in ({"path": "c"}, {"kind": "symlink"}, {"mode": 0o755}, {"sha256": canonical.digest(b"y")}):
        assert digest != canonical.tree_digest([file(**change), file(path="b")])


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.none() | st.text('ab"\\\n'), max_size=8))
def test_a_digest_of_pairs_is_that_of_their_sorted_list(pairs: dict[str, str | None]) -> None:
    listed = canonical.dumps(sorted([text, other] for text, other in pairs.items()))
    assert canonical.pairs_digest(list(pairs), list(pairs.values())) == canonical.digest(listed)
