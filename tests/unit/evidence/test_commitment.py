"""Commitments can be checked by whoever knows the value, without this tool."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from repro.evidence.commitment import commit, matches

SALT = "0b" * 32


@pytest.mark.parametrize("secret", [True, False])
@pytest.mark.parametrize("value", ["hunter2", "", "grün", "bytes \udcff", "line\nbreak"])
def test_the_same_value_matches_and_no_other(value: str, secret: bool) -> None:
    found = commit(SALT, "DB_PASSWORD", value, secret=secret)
    assert matches(found, SALT, "DB_PASSWORD", value) is True
    assert matches(found, SALT, "DB_PASSWORD", value + "x") is False
    assert matches(found, SALT, "DB_PASSWORE", value) is False
    assert matches(found, "0c" * 32, "DB_PASSWORD", value) is False
    assert value == "" or value not in found


def test_a_third_party_can_recompute_both_kinds() -> None:
    salt = bytes.fromhex(SALT)
    assert commit(SALT, "N", "v", secret=False) == "hmac-sha256:" + hmac.new(salt, b"N\0v", hashlib.sha256).hexdigest()
    kind, n, r, p, digest = commit(SALT, "N", "v", secret=True).split(":")
    assert kind == "scrypt"
    assert digest == hashlib.scrypt(b"v", salt=salt + b"\0N", n=int(n), r=int(r), p=int(p), dklen=32).hex()


@pytest.mark.parametrize(
    "hostile",
    [
        "",
        "md5:00",
        "scrypt:9999999:99:9:" + "0" * 64,
        "scrypt:0:8:1:" + "0" * 64,
        "scrypt:3:1:1:" + "0" * 64,
        "scrypt:x",
    ],
)
def test_what_is_no_commitment_says_nothing(hostile: str) -> None:
    assert matches(hostile, SALT, "N", "v") is None


def test_a_salt_that_is_none_says_nothing() -> None:
    assert matches(commit(SALT, "N", "v", secret=False), "not hexadecimal", "N", "v") is None
