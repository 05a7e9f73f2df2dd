from __future__ import annotations

import base64
import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repro.errors import AlteredError, InconclusiveError, UntrustedError
from repro.evidence import canonical, integrity, keys, manifest, seal, tables, trust
from repro.evidence.integrity import Integrity, RecordLight

Rewrite = Callable[[Path, bytes], None]


def examine(sealed: Any) -> Integrity:
    return integrity.examine(sealed.directory, sealed.store, trust.trusted_keys(sealed.store))


def load(sealed: Any, **options: bool) -> Any:
    return integrity.load(sealed.directory, sealed.store, trust.trusted_keys(sealed.store), **options)


def resign(sealed: Any, change: Callable[[dict[str, Any]], None], rewrite: Rewrite) -> None:
    """Change the statement and sign it anew with the machine's own key."""
    envelope = json.loads(sealed.directory.statement.read_bytes())
    document = json.loads(base64.b64decode(envelope["payload"]))
    change(document)
    key, _ = keys.machine_key(sealed.store)
    rewrite(sealed.directory.statement, seal.sign(canonical.dumps(document), key))


def test_a_sealed_run_is_intact(sealed: Any) -> None:
    result = examine(sealed)
    assert (RecordLight.INTACT, (), (sealed.sealed.keyid,), ()) == (
        result.light,
        result.problems,
        result.signers,
        result.strangers,
    )
    assert result.error() is None
    assert repr(sealed.record) == repr(result.record) == repr(load(sealed))
    assert sealed.directory.run_id == result.run_id
    assert result.statement is not None
    assert sealed.directory.run_id == result.statement["predicate"]["run_id"]


def test_the_lights_have_the_names_of_the_design() -> None:
    assert ["INTACT", "INTACT-UNKNOWN-SIGNER", "UNSIGNED", "ALTERED"] == [light.value for light in RecordLight]


def test_a_stranger_s_signature_is_said_and_may_be_allowed(sealed: Any) -> None:
    shutil.rmtree(sealed.store.keys)
    result = examine(sealed)
    assert (RecordLight.UNKNOWN_SIGNER, (), (sealed.sealed.keyid,)) == (result.light, result.signers, result.strangers)
    with pytest.raises(UntrustedError, match=sealed.sealed.keyid):
        load(sealed)
    assert sealed.record.run == load(sealed, allow_unknown_signer=True).run


def test_a_run_without_a_statement_is_unsigned(sealed: Any) -> None:
    sealed.directory.statement.unlink()
    result = examine(sealed)
    assert (RecordLight.UNSIGNED, ["statement.dsse.json"]) == (result.light, [p.member for p in result.problems])
    for options in ({}, {"allow_unknown_signer": True}):
        with pytest.raises(UntrustedError, match="is not signed"):
            load(sealed, **options)


@pytest.mark.parametrize("member", ["manifest", "object"])
def test_a_missing_member_is_named_and_no_pass(sealed: Any, member: str) -> None:
    digest = canonical.digest(b"hello\n")
    path = sealed.directory.manifest if member == "manifest" else sealed.store.objects.path(digest)
    name = "manifest.duckdb" if member == "manifest" else f"objects/{digest[7:9]}/{digest[9:]}"
    path.unlink()
    result = examine(sealed)
    assert [(name, "missing")] == [(problem.member, problem.kind) for problem in result.problems]
    assert RecordLight.ALTERED is result.light
    with pytest.raises(InconclusiveError, match=f"is not complete: {name} is missing"):
        load(sealed)


def test_every_problem_is_collected(sealed: Any, rewrite: Rewrite) -> None:
    digests = [canonical.digest(data) for data in (b"hello\n", b"torch==2.13.0\n")]
    rewrite(sealed.store.objects.path(digests[0]), b"HELLO\n")
    sealed.store.objects.path(digests[1]).unlink()
    manifest_bytes = sealed.directory.manifest.read_bytes()
    rewrite(sealed.directory.manifest, manifest_bytes + b"\0")
    result = examine(sealed)
    names = {f"objects/{d[7:9]}/{d[9:]}": kind for d, kind in zip(digests, ("altered", "missing"), strict=True)}
    assert names | {"manifest.duckdb": "altered"} == {problem.member: problem.kind for problem in result.problems}
    (changed,) = [problem for problem in result.problems if problem.member == "manifest.duckdb"]
    assert (canonical.digest(manifest_bytes), canonical.digest(manifest_bytes + b"\0")) == (
        changed.expected,
        changed.found,
    )
    (other,) = [problem for problem in result.problems if problem.expected == digests[0]]
    assert canonical.digest(b"HELLO\n") == other.found
    assert result.record is None
    with pytest.raises(AlteredError, match=r"was altered: .*\(and 1 more\)"):
        load(sealed)


def test_an_object_that_is_a_directory_is_altered(sealed: Any) -> None:
    digest = canonical.digest(b"hello\n")
    sealed.store.objects.path(digest).unlink()
    sealed.store.objects.path(digest).mkdir()
    assert [("altered", digest)] == [(problem.kind, problem.expected) for problem in examine(sealed).problems]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/etc/hostname", path)])
@pytest.mark.parametrize("member", ["statement", "manifest"])
def test_a_member_that_is_no_plain_file_is_altered(sealed: Any, make: Callable[[Path], None], member: str) -> None:
    path = getattr(sealed.directory, member)
    path.unlink()
    make(path)
    result = examine(sealed)
    assert [(path.name, "altered")] == [(problem.member, problem.kind) for problem in result.problems]
    assert RecordLight.ALTERED is result.light


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("status", "failed"),
        ("command", ["python", "other.py"]),
        ("gaps", []),
        ("hardware", {}),
        ("metrics", []),
        ("tolerances", []),
        ("wall_seconds", "1.0"),
        ("randomness", {"hash_seed": "0"}),
    ],
)
def test_a_statement_that_says_other_than_the_manifest(sealed: Any, rewrite: Rewrite, name: str, value: Any) -> None:
    def change(document: dict[str, Any]) -> None:
        document["predicate"][name] = value

    resign(sealed, change, rewrite)
    assert [f"statement.dsse.json and manifest.duckdb disagree about {name}"] == [
        p.sentence for p in examine(sealed).problems
    ]


def test_a_statement_that_leaves_out_an_object(sealed: Any, rewrite: Rewrite) -> None:
    left_out = canonical.digest(b"hello\n")
    resign(sealed, lambda document: document["predicate"]["objects"].remove(left_out), rewrite)
    assert [f"statement.dsse.json leaves out the object {left_out}"] == [p.sentence for p in examine(sealed).problems]


def test_the_content_of_a_table_is_held_against_its_digest(sealed: Any, rewrite: Rewrite) -> None:
    changed = dataclasses.replace(sealed.record.tolerances[0], absolute=1.0)
    other = sealed.directory.path / "other.duckdb"
    manifest.write(dataclasses.replace(sealed.record, tolerances=(changed,)), other)
    rewrite(sealed.directory.manifest, other.read_bytes())
    digest, _ = canonical.digest_file(other)

    def change(document: dict[str, Any]) -> None:
        document["subject"][0]["digest"]["sha256"] = digest.removeprefix("sha256:")

    resign(sealed, change, rewrite)
    problem = examine(sealed).problems[0]
    expected = tables.digests(sealed.record)["tolerance"]
    assert ("manifest.duckdb", "altered", expected) == (problem.member, problem.kind, problem.expected)
    assert problem.sentence.startswith("table tolerance of manifest.duckdb has the digest sha256:")


def test_a_newer_version_needs_a_newer_repro(sealed: Any, rewrite: Rewrite) -> None:
    def change(document: dict[str, Any]) -> None:
        document["predicate"]["schema_version"] = 2

    resign(sealed, change, rewrite)
    with pytest.raises(InconclusiveError, match="schema version 2") as caught:
        examine(sealed)
    assert "it needs a newer repro" == caught.value.hint
