"""Threats 3 to 8, 10 and 13 to 16: signatures that are missing, forged, borrowed or bent, and keys that are weak."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from repro.errors import AlteredError, UsageError
from repro.evidence import keys, seal, trust
from repro.evidence.keys import SigningKey

ORDER = 2**252 + 27742317777372353535851937790883648493
LOW_ORDER = [
    y + sign
    for y, signs in {
        "01" + "00" * 30: ("00", "80"),
        "ec" + "ff" * 30: ("7f", "ff"),
        "00" * 31: ("00", "80"),
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03": ("7a", "fa"),
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc": ("05", "85"),
        "ed" + "ff" * 30: ("7f", "ff"),
        "ee" + "ff" * 30: ("7f", "ff"),
    }.items()
    for sign in signs
]
"""The 14 encodings of points of low order: C2SP/CCTV, ed25519."""


def attacker() -> SigningKey:
    return SigningKey(Ed25519PrivateKey.generate())


def pem(public: Any) -> bytes:
    data: bytes = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return data


def test_3_all_signatures_removed(victim: Any) -> None:
    victim.change_envelope(signatures=[])
    result = victim.examine()
    assert ("UNSIGNED", 4) == (result.light, victim.exit_code())
    assert 4 == result.error(allow_unknown_signer=True).exit_code
    victim.write(victim.directory.statement, json.dumps({"payload": victim.envelope()["payload"]}).encode())
    assert 3 == victim.exit_code()


def test_4_an_envelope_by_an_attacker_who_brings_his_key(victim: Any) -> None:
    key = attacker()
    victim.write(victim.directory.statement, seal.sign(victim.payload(), key))
    for place in (victim.directory.path, victim.directory.path / "keys" / "trusted", victim.store.root):
        place.mkdir(parents=True, exist_ok=True)
        (place / "attacker.pub").write_bytes(pem(key.public))
    result = victim.examine()
    assert ("INTACT-UNKNOWN-SIGNER", (), (key.keyid,)) == (result.light, result.signers, result.strangers)
    assert 4 == victim.exit_code()


def test_5_the_keyid_of_a_trusted_key_over_another_s_signature(victim: Any) -> None:
    forged = json.loads(seal.sign(victim.payload(), attacker()))["signatures"][0]
    victim.change_envelope(signatures=[{**forged, "keyid": victim.keyid}])
    assert ("ALTERED", 3) == (victim.examine().light, victim.exit_code())


@pytest.mark.parametrize("keyid", [None, "", "sha256:" + "0" * 64, "ann@example.org"])
def test_6_a_wrong_keyid_or_none_on_a_good_signature(victim: Any, keyid: str | None) -> None:
    signature = victim.envelope()["signatures"][0]
    del signature["keyid"]
    victim.change_envelope(signatures=[signature if keyid is None else {**signature, "keyid": keyid}])
    assert ("INTACT", (victim.keyid,)) == (victim.examine().light, victim.examine().signers)


def test_7_one_key_counts_once(victim: Any) -> None:
    signature = victim.envelope()["signatures"][0]
    victim.change_envelope(signatures=[signature, signature, {**signature, "keyid": "another"}])
    assert ((victim.keyid,), ()) == (victim.examine().signers, victim.examine().strangers)


def test_7_two_keys_count_twice_and_a_stranger_beside_them_is_named(victim: Any, tmp_path: Path) -> None:
    second, stranger = attacker(), attacker()
    (tmp_path / "second.pub").write_bytes(pem(second.public))
    trust.add(victim.store, tmp_path / "second.pub", "second")
    signatures = [json.loads(seal.sign(victim.payload(), key))["signatures"][0] for key in (second, stranger)]
    victim.change_envelope(signatures=[*victim.envelope()["signatures"], *signatures])
    result = victim.examine()
    assert (0, {victim.keyid, second.keyid}, (stranger.keyid,)) == (
        victim.exit_code(),
        set(result.signers),
        result.strangers,
    )


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/json",
        "application/vnd.in-toto+json ",
        "application/vnd.In-Toto+json",
        "application/vnd.in-toto+jsön",
        "",
        None,
        ["application/vnd.in-toto+json"],
    ],
)
def test_8_another_payload_type(victim: Any, kind: Any) -> None:
    victim.change_envelope(payloadType=kind)
    assert 3 == victim.exit_code()


def test_8_another_payload_type_that_is_rightly_signed(victim: Any) -> None:
    key, _ = keys.machine_key(victim.store)
    signature = key.sign(seal.pae(victim.payload(), "application/json"))
    victim.change_envelope(
        payloadType="application/json",
        signatures=[{"sig": base64.b64encode(signature).decode(), "keyid": key.keyid}],
    )
    assert 3 == victim.exit_code()


@pytest.mark.parametrize(
    ("name", "value", "exit_code"),
    [
        ("predicateType", seal.REPLAY_VERDICT, 3),
        ("predicateType", seal.AUDIT_REPORT, 3),
        ("predicateType", "https://slsa.dev/provenance/v1", 3),
        ("predicateType", "urn:repro:attestation:training-run:2", 5),
        ("predicateType", None, 3),
        ("_type", "https://in-toto.io/Statement/v0.1", 3),
        ("_type", "https://in-toto.io/Statement/v2", 3),
    ],
)
def test_10_another_type_rightly_signed(victim: Any, name: str, value: Any, exit_code: int) -> None:
    victim.resign(lambda document: document.update({name: value}))
    if exit_code == 5:
        with pytest.raises(Exception, match="unknown here") as caught:
            victim.examine()
        assert 5 == caught.value.exit_code  # type: ignore[attr-defined]
    else:
        assert exit_code == victim.exit_code()


def test_10_a_verdict_by_the_same_key_is_no_run(victim: Any) -> None:
    subjects = [("manifest.duckdb", "sha256:" + "0" * 64)]
    predicate = json.loads(victim.payload())["predicate"]
    victim.write(
        victim.directory.statement, seal.seal_statement(seal.REPLAY_VERDICT, subjects, predicate, victim.store)
    )
    assert 3 == victim.exit_code()


def with_bits_after_the_end(text: str) -> str:
    """Set a bit that the padding leaves unused: Python's decoder takes it."""
    assert text.endswith("==")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    bent = text[:-3] + alphabet[alphabet.index(text[-3]) + 1] + "=="
    assert base64.b64decode(bent, validate=True) == base64.b64decode(text)
    return bent


BENT: dict[str, Callable[[str], str]] = {
    "newline": lambda text: text[:8] + "\n" + text[8:],
    "space": lambda text: text + " ",
    "no padding": lambda text: text.rstrip("="),
    "more padding": lambda text: text + "=",
    "bits after the end": with_bits_after_the_end,
    "mixed alphabets": lambda text: "+-" + text[2:],
    "non-ASCII": lambda text: "é" + text[1:],
    "double": lambda text: base64.b64encode(text.encode()).decode(),
}


@pytest.mark.parametrize("bend", BENT.values(), ids=BENT.keys())
def test_13_base64_that_is_not_strict(victim: Any, bend: Callable[[str], str]) -> None:
    signature = victim.envelope()["signatures"][0]
    victim.change_envelope(signatures=[{**signature, "sig": bend(signature["sig"])}])
    assert 3 == victim.exit_code()


def test_13_url_safe_base64_is_taken(victim: Any) -> None:
    signature = victim.envelope()["signatures"][0]
    url_safe = base64.urlsafe_b64encode(base64.b64decode(signature["sig"])).decode()
    payload = base64.urlsafe_b64encode(victim.payload()).decode()
    victim.change_envelope(payload=payload, signatures=[{**signature, "sig": url_safe}])
    assert 0 == victim.exit_code()


def test_14_a_payload_written_anew_with_the_same_meaning(victim: Any) -> None:
    pretty = json.dumps(json.loads(victim.payload()), indent=1).encode()
    victim.change_envelope(payload=base64.b64encode(pretty).decode())
    assert 3 == victim.exit_code()


@pytest.mark.parametrize("encoding", LOW_ORDER)
def test_15_a_weak_key_is_never_trusted(victim: Any, tmp_path: Path, encoding: str) -> None:
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(encoding))
    file = tmp_path / "weak.pub"
    file.write_bytes(pem(public))
    with pytest.raises(UsageError, match="weak key of low order"):
        trust.add(victim.store, file, "weak")
    with pytest.raises(UsageError, match="weak key of low order"):
        trust.trusted_keys(victim.store, (file,))


def test_15_there_are_fourteen_and_an_honest_key_is_none_of_them() -> None:
    assert 14 == len(set(LOW_ORDER))
    assert not any(trust.is_low_order(attacker().public) for _ in range(50))


@pytest.mark.parametrize(
    "make",
    [
        lambda: rsa.generate_private_key(public_exponent=65537, key_size=1024),
        lambda: dsa.generate_private_key(1024),
        lambda: ec.generate_private_key(ec.SECP256K1()),
        lambda: ec.generate_private_key(ec.SECP256R1()),
    ],
    ids=["RSA-1024", "DSA", "secp256k1", "P-256"],
)
def test_15_a_key_of_another_kind_is_never_trusted(
    victim: Any, tmp_path: Path, make: Callable[[], Any], recwarn: pytest.WarningsRecorder
) -> None:
    file = tmp_path / "other.pub"
    file.write_bytes(pem(make().public_key()))
    with pytest.raises(UsageError, match="holds no Ed25519 public key"):
        trust.add(victim.store, file, "other")


@pytest.mark.parametrize("content", [b"", b"hello", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_15_a_file_that_is_no_key(victim: Any, tmp_path: Path, content: bytes) -> None:
    (victim.store.keys / "trusted").mkdir()
    (victim.store.keys / "trusted" / "broken.pub").write_bytes(content)
    with pytest.raises(UsageError, match="broken.pub holds no Ed25519 public key"):  # noqa: RUF043
        trust.trusted_keys(victim.store)


def test_16_the_twin_of_a_signature_is_refused(victim: Any) -> None:
    """Ed25519 signatures are not malleable where S is checked to be below the order of the group."""
    signature = victim.envelope()["signatures"][0]
    raw = base64.b64decode(signature["sig"])
    twin = raw[:32] + (int.from_bytes(raw[32:], "little") + ORDER).to_bytes(32, "little")
    victim.change_envelope(signatures=[{**signature, "sig": base64.b64encode(twin).decode()}])
    assert 3 == victim.exit_code()
    with pytest.raises(AlteredError, match="does not fit"):
        seal.open_envelope(victim.directory.statement.read_bytes(), victim.trusted)
