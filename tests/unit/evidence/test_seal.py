from __future__ import annotations

import base64
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repro.errors import AlteredError, ExecutionError, InconclusiveError, ReproError
from repro.evidence import canonical, integrity, keys, manifest, seal, trust
from repro.evidence.model import Record
from repro.evidence.objects import Objects
from repro.evidence.store import Store


def test_pae_is_that_of_the_specification() -> None:
    # github.com/secure-systems-lab/dsse, protocol.md, "Test vectors"; lengths count bytes, not characters.
    assert b"DSSEv1 29 http://example.com/HelloWorld 11 hello world" == seal.pae(
        b"hello world", "http://example.com/HelloWorld"
    )
    assert "DSSEv1 14 application/é 2 é".encode() == seal.pae("é".encode(), "application/é")


def test_what_is_signed_can_be_opened(store: Store) -> None:
    key, _ = keys.machine_key(store)
    envelope = seal.open_envelope(seal.sign(b'{"a":1}', key), trust.trusted_keys(store))
    assert (b'{"a":1}', (key.keyid,), ()) == (envelope.payload, envelope.signers, envelope.strangers)
    stranger = seal.open_envelope(seal.sign(b'{"a":1}', key), {})
    assert (b'{"a":1}', (), (key.keyid,)) == (stranger.payload, stranger.signers, stranger.strangers)


def test_an_envelope_is_canonical_json_in_the_form_of_dsse(store: Store) -> None:
    key, _ = keys.machine_key(store)
    data = seal.sign(b"payload", key)
    document = canonical.loads(data)
    assert data == canonical.dumps(document)
    assert "application/vnd.in-toto+json" == document["payloadType"]
    assert b"payload" == base64.b64decode(document["payload"])
    assert [key.keyid] == [signature["keyid"] for signature in document["signatures"]]


@given(st.binary())
def test_base64_survives(data: bytes) -> None:
    assert data == seal.decode_base64(base64.b64encode(data).decode())
    assert data == seal.decode_base64(base64.urlsafe_b64encode(data).decode())


@given(st.text("ABYZabyz0189+/-_= \n", max_size=12))
def test_one_text_per_value(text: str) -> None:
    try:
        data = seal.decode_base64(text)
    except AlteredError:
        return
    assert text in (base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode())


@given(st.binary() | st.text().map(lambda text: f'{{"payload":{text}'.encode("utf-8", "surrogatepass")))
def test_opening_raises_nothing_but_our_errors(data: bytes) -> None:
    with pytest.raises(ReproError):
        seal.open_envelope(data, {})


@pytest.mark.parametrize(
    ("document", "error", "why"),
    [
        ([], AlteredError, "not an in-toto statement"),
        ({"_type": "https://in-toto.io/Statement/v0.1"}, AlteredError, "not an in-toto statement"),
        ({"_type": seal.STATEMENT_TYPE}, AlteredError, "of type 'None'"),
        ({"_type": seal.STATEMENT_TYPE, "predicateType": seal.REPLAY_VERDICT}, AlteredError, "replay-verdict"),
        (
            {"_type": seal.STATEMENT_TYPE, "predicateType": "urn:repro:attestation:training-run:2"},
            InconclusiveError,
            "training-run:2",
        ),
    ],
)
def test_a_statement_of_another_type_is_refused(document: Any, error: type[ReproError], why: str) -> None:
    with pytest.raises(error, match=why):
        seal.read_statement(canonical.dumps(document), seal.TRAINING_RUN)


def test_sealing_a_run(store: Store, sample: Callable[[str, Objects], Record]) -> None:
    first, second = store.create_run(), store.create_run()
    made = seal.seal_run(sample(first.run_id, store.objects), first, store)
    again = seal.seal_run(sample(second.run_id, store.objects), second, store)
    assert made.keyid == made.new_key == again.keyid
    assert again.new_key is None
    assert {"manifest.duckdb", "statement.dsse.json"} == set(os.listdir(first.path))
    assert [0o444, 0o444] == [path.stat().st_mode & 0o777 for path in (first.manifest, first.statement)]


def test_no_name_in_a_script_can_prevent_the_seal(store: Store, sample: Callable[[str, Objects], Record]) -> None:
    directory = store.create_run()
    record = sample(directory.run_id, store.objects)
    odd = dataclasses.replace(record.metrics[0], name="\ud83d half a smiley \0")
    seal.seal_run(dataclasses.replace(record, metrics=(odd,)), directory, store)
    loaded = integrity.load(directory, store, trust.trusted_keys(store))
    assert ["\\ud83d half a smiley \0"] == [metric.name for metric in loaded.metrics]


def test_a_run_is_sealed_once(store: Store, record: Record) -> None:
    directory = store.create_run()
    seal.seal_run(
        dataclasses.replace(record, run=dataclasses.replace(record.run, run_id=directory.run_id)), directory, store
    )
    with pytest.raises(ExecutionError, match="exists already"):
        seal.seal_run(record, directory, store)


def test_a_statement_of_ours_about_anything(store: Store) -> None:
    digest = canonical.digest(b"report")
    data = seal.seal_statement(seal.AUDIT_REPORT, [("report.json", digest)], {"verdict": "MET"}, store)
    envelope = seal.open_envelope(data, trust.trusted_keys(store))
    document = seal.read_statement(envelope.payload, seal.AUDIT_REPORT)
    assert {"verdict": "MET"} == document["predicate"]
    assert [{"name": "report.json", "digest": {"sha256": digest.removeprefix("sha256:")}}] == document["subject"]
    assert 1 == len(envelope.signers)


def test_writing_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(ExecutionError, match="cannot write"):
        seal.write_once(tmp_path / "missing" / "file", b"")
    (tmp_path / "taken").mkdir()
    with pytest.raises(ExecutionError, match="cannot write"):
        seal.write_once(tmp_path / "taken", b"")
    assert ["taken"] == os.listdir(tmp_path)


def test_the_manifest_that_is_signed_is_the_one_on_disk(store: Store, sample: Callable[[str, Objects], Record]) -> None:
    directory = store.create_run()
    seal.seal_run(sample(directory.run_id, store.objects), directory, store)
    document = canonical.loads(seal.open_envelope(directory.statement.read_bytes(), {}).payload)
    signed = f"sha256:{document['subject'][0]['digest']['sha256']}"
    assert canonical.digest_file(directory.manifest)[0] == signed
    manifest.read(directory.manifest, expected_digest=signed)
