from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from repro.errors import ExecutionError, UsageError
from repro.evidence import keys, trust
from repro.evidence.store import Store


def public_file(path: Path) -> tuple[Path, str]:
    public = ed25519.Ed25519PrivateKey.generate().public_key()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path, keys.fingerprint(public)


def test_nobody_is_trusted_at_first(store: Store) -> None:
    assert {} == trust.trusted_keys(store)
    assert {} == trust.trusted_files(store)


def test_the_trusted_are_the_machine_those_kept_and_those_named(store: Store, tmp_path: Path) -> None:
    own, _ = keys.machine_key(store)
    kept, kept_id = public_file(store.keys / "trusted" / "ann.pub")
    named, named_id = public_file(tmp_path / "bob.pem")
    public_file(store.keys / "trusted" / "not-a-key.txt")
    assert [own.keyid, kept_id] == list(trust.trusted_keys(store))
    assert [own.keyid, kept_id, named_id] == list(trust.trusted_keys(store, (named, kept)))
    assert {keys.public_path(store): own.keyid, kept: kept_id} == trust.trusted_files(store)
    assert all(keyid == keys.fingerprint(public) for keyid, public in trust.trusted_keys(store).items())


def test_a_key_is_added_once(store: Store, tmp_path: Path) -> None:
    file, keyid = public_file(tmp_path / "ann.pub")
    path = store.keys / "trusted" / "ann.pub"
    assert (keyid, path) == trust.add(store, file, "ann") == trust.add(store, file, "ann")
    assert [keyid] == list(trust.trusted_keys(store))
    other, _ = public_file(tmp_path / "other.pub")
    with pytest.raises(UsageError, match="another key is trusted as 'ann'"):
        trust.add(store, other, "ann")
    assert [keyid] == list(trust.trusted_keys(store))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "-rf", ".hidden", "a\nb", "x" * 200])
def test_a_name_that_is_no_file_name_is_refused(store: Store, tmp_path: Path, name: str) -> None:
    file, _ = public_file(tmp_path / "ann.pub")
    with pytest.raises(UsageError, match="is no name for a key"):
        trust.add(store, file, name)


def test_a_key_that_is_not_there_or_cannot_be_read(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no public key"):
        trust.trusted_keys(store, (tmp_path / "missing.pub",))
    with pytest.raises(ExecutionError, match="cannot read the public key"):
        trust.trusted_keys(store, (tmp_path,))
