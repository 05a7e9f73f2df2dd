"""Threats 11, 12, 20 to 22 and 66: hostile JSON, borrowed statements, bent subjects, versions to come."""

from __future__ import annotations

import base64
import json
import resource
import shutil
from collections.abc import Callable
from typing import Any

import duckdb
import pytest

from repro.errors import InconclusiveError
from repro.evidence import canonical, seal


def doubled(text: bytes, key: bytes) -> bytes:
    """Return a JSON object that has a key twice."""
    assert text.startswith(b"{")
    return b"{" + key + b":0," + text[1:]


@pytest.mark.parametrize("key", [b'"payload"', b'"payloadType"', b'"signatures"', b'"p\\u0061yload"'])
def test_11_a_key_twice_in_the_envelope(victim: Any, key: bytes) -> None:
    victim.write(victim.directory.statement, doubled(victim.directory.statement.read_bytes(), key))
    assert 3 == victim.exit_code()


@pytest.mark.parametrize("key", [b'"subject"', b'"predicate"', b'"_type"', b'"pr\\u0065dicate"'])
def test_11_a_key_twice_in_the_payload(victim: Any, key: bytes) -> None:
    victim.sign(doubled(victim.payload(), key))
    assert 3 == victim.exit_code()


HOSTILE = {
    "NaN": b"NaN",
    "infinity by exponent": b"1e999",
    "a float": b"0.5",
    "5000 digits": b"9" * 5000,
    "beyond 53 bits": b"9007199254740993",
    "deep arrays": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "lone surrogate": b'"\\ud800"',
    "a string that never ends": b'"\\' * 1_000_000,
}


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE.keys())
def test_12_hostile_json_in_the_payload_and_the_envelope(victim: Any, value: bytes) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    victim.sign(b'{"x":' + value + b"," + victim.payload()[1:])
    assert 3 == victim.exit_code()
    victim.write(victim.directory.statement, b'{"x":' + value + b"," + victim.directory.statement.read_bytes()[1:])
    assert 3 == victim.exit_code()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024


@pytest.mark.parametrize(
    "spoil", [lambda data: b"\xef\xbb\xbf" + data, lambda data: data + b"{}", lambda data: data + b"\xff"]
)
def test_12_bytes_before_or_after_the_document(victim: Any, spoil: Callable[[bytes], bytes]) -> None:
    good = victim.directory.statement.read_bytes()
    victim.sign(spoil(victim.payload()))
    assert 3 == victim.exit_code()
    victim.write(victim.directory.statement, spoil(good))
    assert 3 == victim.exit_code()


def test_12_a_document_beyond_every_measure(victim: Any) -> None:
    victim.write(victim.directory.statement, b" " * (canonical.MAX_BYTES + 10))
    assert 3 == victim.exit_code()


def test_20_an_old_run_under_a_new_id(make_victim: Callable[[], Any]) -> None:
    victim = make_victim()
    copy = victim.store.create_run()
    shutil.copytree(victim.directory.path, copy.path, dirs_exist_ok=True)
    replayed = type(victim)(store=victim.store, directory=copy, record=victim.record)
    (problem,) = replayed.examine().problems
    assert f"statement.dsse.json belongs to run {victim.directory.run_id}, not to {copy.run_id}" == problem.sentence
    assert 3 == replayed.exit_code()


@pytest.mark.parametrize("member", ["statement", "manifest"])
def test_20_one_run_s_statement_with_another_s_files(make_victim: Callable[[], Any], member: str) -> None:
    left, right = make_victim(), make_victim()
    left.write(getattr(left.directory, member), getattr(right.directory, member).read_bytes())
    assert "manifest.duckdb" in {problem.member for problem in left.examine().problems}
    assert 3 == left.exit_code()


def test_21_a_subject_twice(victim: Any) -> None:
    victim.resign(lambda document: document["subject"].append(document["subject"][1]))
    assert ["statement.dsse.json names a subject twice"] == [problem.sentence for problem in victim.examine().problems]


def test_21_the_manifest_twice_with_two_digests(victim: Any) -> None:
    other = {"name": "manifest.duckdb", "digest": {"sha256": "0" * 64}}
    victim.resign(lambda document: document["subject"].insert(0, other))
    assert 3 == victim.exit_code()


def test_21_no_manifest_among_the_subjects(victim: Any) -> None:
    victim.resign(lambda document: document["subject"].pop(0))
    assert 3 == victim.exit_code()


@pytest.mark.parametrize(
    "digest",
    [
        {"md5": "d41d8cd98f00b204e9800998ecf8427e"},
        {"sha1": "da39a3ee5e6b4b0d3255bfef95601890afd80709"},
        {},
        {"sha256": "zz"},
        {"sha256": "0" * 63},
        {"sha256": "0" * 64 + "\n"},
        {"sha256": "A" * 64},
        {"sha256": "sha256:" + "0" * 64},
        {"sha256": "0" * 64, "md5": "d41d8cd98f00b204e9800998ecf8427e"},
    ],
    ids=str,
)
def test_22_a_subject_with_a_weak_or_bent_digest(victim: Any, digest: dict[str, str]) -> None:
    def change(document: dict[str, Any]) -> None:
        document["subject"][1]["digest"] = digest

    victim.resign(change)
    (problem,) = victim.examine().problems
    assert "at /subject/1/digest" in problem.sentence
    assert 3 == victim.exit_code()


def test_66_a_newer_statement_and_a_newer_schema(victim: Any) -> None:
    good = victim.payload()
    victim.resign(lambda document: document["predicate"].update(schema_version=2))
    with pytest.raises(InconclusiveError) as caught:
        victim.examine()
    assert "it needs a newer repro" == caught.value.hint
    victim.sign(good.replace(seal.TRAINING_RUN.encode(), b"urn:repro:attestation:training-run:2"))
    with pytest.raises(InconclusiveError) as caught:
        victim.examine()
    assert "it needs a newer repro" == caught.value.hint


def test_66_a_newer_manifest(victim: Any) -> None:
    path = victim.directory.manifest
    path.chmod(0o644)
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE manifest SET schema_version = 2; CREATE TABLE colour (name VARCHAR)")
    victim.resign(lambda document: document["subject"][0]["digest"].update(sha256=canonical.digest_file(path)[0][7:]))
    with pytest.raises(InconclusiveError, match="has the schema version 2, this repro reads version 1"):
        victim.examine()


@pytest.mark.parametrize("where", [("predicate",), ("predicate", "code"), ()])
def test_66_a_field_that_version_1_does_not_have(victim: Any, where: tuple[str, ...]) -> None:
    def change(document: dict[str, Any]) -> None:
        for step in where:
            document = document[step]
        document["critical"] = True

    victim.resign(change)
    assert "'critical' was unexpected" in victim.examine().problems[0].sentence
    assert 3 == victim.exit_code()


def test_the_attacks_above_start_from_a_run_that_is_intact(victim: Any) -> None:
    """A control: the tools of these tests alone do not break a run."""
    victim.resign(lambda document: None)
    assert 0 == victim.exit_code()
    victim.change_envelope(extra="ignored, as DSSE wants it")
    assert 0 == victim.exit_code()
    assert json.loads(victim.payload()) == json.loads(base64.b64decode(victim.envelope()["payload"]))
