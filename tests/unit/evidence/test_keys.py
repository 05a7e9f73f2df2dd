from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from repro.errors import ExecutionError, UsageError
from repro.evidence import canonical, keys, trust
from repro.evidence.store import Store


def test_the_first_call_makes_a_key_and_the_second_finds_it(store: Store) -> None:
    key, created = keys.machine_key(store)
    again, created_again = keys.machine_key(store)
    assert (True, False) == (created, created_again)
    assert key.keyid == again.keyid
    assert 0o700 == stat.S_IMODE(store.keys.stat().st_mode)
    assert 0o600 == stat.S_IMODE((store.keys / "signing.pem").stat().st_mode)
    assert {"signing.pem", "signing.pub"} == set(os.listdir(store.keys))
    key.public.verify(again.sign(b"message"), b"message")


def test_the_keyid_is_what_openssl_says(store: Store) -> None:
    key, _ = keys.machine_key(store)
    command = ["openssl", "pkey", "-pubin", "-in", str(keys.public_path(store)), "-outform", "DER"]
    der = subprocess.run(command, check=True, capture_output=True).stdout
    assert canonical.digest(der) == key.keyid == keys.fingerprint(key.public)


def test_a_key_never_shows_itself(store: Store) -> None:
    key, _ = keys.machine_key(store)
    secret = (store.keys / "signing.pem").read_text().splitlines()[1]
    assert f"SigningKey({key.keyid})" == repr(key) == str(key)
    assert secret not in repr(vars(keys)) + repr(key)


def test_two_first_records_at_once_make_one_key(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from repro.evidence import keys; from repro.evidence.store import Store\n"
        "key, created = keys.machine_key(Store(Path(sys.argv[1]))); print(key.keyid, created)\n"
    )
    root = Path(keys.__file__).parents[2]
    command = [sys.executable, "-c", script, str(tmp_path / "home")]
    workers = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    answers = [worker.communicate()[0].split() for worker in workers]
    assert 1 == len({keyid for keyid, _ in answers})
    assert 1 == sum(created == "True" for _, created in answers)
    assert {"signing.pem", "signing.pub"} == set(os.listdir(tmp_path / "home" / "keys"))


def test_the_public_key_follows_the_private_one(store: Store) -> None:
    keys.machine_key(store)
    (store.keys / "signing.pem").unlink()
    key, created = keys.machine_key(store)
    assert created
    assert [key.keyid] == list(trust.trusted_keys(store))
    keys.public_path(store).unlink()
    assert (key.keyid, False) == (keys.machine_key(store)[0].keyid, keys.machine_key(store)[1])
    assert [key.keyid] == list(trust.trusted_keys(store))


@pytest.mark.parametrize("content", [b"", b"hello", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_file_that_is_no_key_is_refused_and_kept(store: Store, content: bytes) -> None:
    store.keys.mkdir(parents=True, mode=0o700)
    path = store.keys / "signing.pem"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(UsageError, match="holds no unencrypted Ed25519 key"):
        keys.machine_key(store)
    assert content == path.read_bytes()


def test_a_key_of_another_kind_is_refused(store: Store) -> None:
    store.keys.mkdir(parents=True, mode=0o700)
    private = ec.generate_private_key(ec.SECP256R1())
    path = store.keys / "signing.pem"
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    with pytest.raises(UsageError, match="holds no unencrypted Ed25519 key"):
        keys.machine_key(store)


def test_a_home_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ExecutionError, match="cannot read or write the signing key"):
        keys.machine_key(Store(tmp_path / "file"))
    key, _ = keys.machine_key(Store(tmp_path / "home"))
    with pytest.raises(ExecutionError, match="cannot write the public key"):
        keys.write_public(tmp_path / "file" / "x.pub", key.public)
