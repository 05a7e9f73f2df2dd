"""The signed verdict."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest

from repro.audit import attest
from repro.audit.verdict import Reason, Word, judge
from repro.errors import AlteredError, InconclusiveError, UntrustedError, UsageError
from repro.evidence import canonical, schema, trust
from repro.evidence.store import Store


@pytest.fixture
def pair(make, sealed, store):
    return sealed(make.original()), sealed(make.replay())


def test_a_verdict_is_written_beside_the_replay_and_can_be_read_back(pair, store):
    trusted = trust.trusted_keys(store)
    verdict = attest.attest(*pair, store, trusted)
    predicate, signers = attest.read_verdict(pair[1], trusted)
    assert verdict.word is Word.MATCHED_EXACTLY
    assert (predicate["verdict"], predicate["reason"], predicate["sentence"]) == (
        "MATCHED-EXACTLY",
        None,
        verdict.sentence,
    )
    assert signers == tuple(trusted)
    assert predicate["performed_by"] == {"relation": "same key"}
    assert not pair[0].verdict.exists()


def test_the_verdict_is_bound_to_both_manifests(pair, store):
    attest.attest(*pair, store, trust.trusted_keys(store))
    envelope = json.loads(pair[1].verdict.read_bytes())
    subjects = json.loads(base64.b64decode(envelope["payload"]))["subject"]
    assert {s["name"]: f"sha256:{s['digest']['sha256']}" for s in subjects} == {
        f"{d.run_id}/manifest.duckdb": canonical.digest_file(d.manifest)[0] for d in pair
    }


def test_changed_data_are_in_the_verdict(pair, store):
    trusted = trust.trusted_keys(store)
    verdict = attest.attest(*pair, store, trusted, changed_data=("data/x.csv",))
    predicate, _ = attest.read_verdict(pair[1], trusted)
    assert verdict.reason is Reason.DATA_CHANGED
    assert (predicate["reason"], predicate["changed_data"]) == ("DATA_CHANGED", ["data/x.csv"])


def test_a_second_verdict_replaces_the_first(pair, store):
    trusted = trust.trusted_keys(store)
    attest.attest(*pair, store, trusted)
    attest.attest(*pair, store, trusted, changed_data=("x",))
    assert attest.read_verdict(pair[1], trusted)[0]["verdict"] == "INDETERMINATE"


@pytest.mark.parametrize("place", [5, 200, -9])
def test_an_edited_verdict_is_found_out(pair, store, place):
    trusted = trust.trusted_keys(store)
    attest.attest(*pair, store, trusted)
    data = bytearray(pair[1].verdict.read_bytes())
    data[place] ^= 1
    pair[1].verdict.chmod(0o600)
    pair[1].verdict.write_bytes(data)
    with pytest.raises(AlteredError):
        attest.read_verdict(pair[1], trusted)


def test_a_statement_over_a_run_is_no_verdict(pair, store):
    pair[1].verdict.write_bytes(pair[1].statement.read_bytes())
    with pytest.raises(AlteredError, match="replay-verdict"):
        attest.read_verdict(pair[1], trust.trusted_keys(store))


def test_a_verdict_by_a_stranger_has_no_signer(pair, store, tmp_path):
    attest.attest(*pair, store, trust.trusted_keys(store))
    assert attest.read_verdict(pair[1], trust.trusted_keys(Store(tmp_path / "elsewhere")))[1] == ()


def test_no_verdict_is_inconclusive(pair, store):
    with pytest.raises(InconclusiveError, match="has no verdict"):
        attest.read_verdict(pair[1], trust.trusted_keys(store))


def test_altered_records_are_not_judged(pair, store):
    pair[0].manifest.chmod(0o600)
    data = bytearray(pair[0].manifest.read_bytes())
    data[5000] ^= 1
    pair[0].manifest.write_bytes(data)
    with pytest.raises(AlteredError):
        attest.attest(*pair, store, trust.trusted_keys(store))


def test_unsigned_records_are_not_judged(pair, store):
    pair[1].statement.unlink()
    with pytest.raises(UntrustedError):
        attest.attest(*pair, store, trust.trusted_keys(store))


def test_runs_that_do_not_belong_together_are_not_judged(make, sealed, store):
    record = make.original()
    other = replace(record, run=replace(record.run, run_id="bbbbbbbbbbbb"))
    with pytest.raises(UsageError):
        attest.attest(sealed(record), sealed(other), store, trust.trusted_keys(store))


def test_the_predicate_fits_its_schema_and_holds_no_float(make, examined):
    original = make.original(tolerances=(make.tolerance("loss", 1e-9),), gaps=(make.gap("trace"),))
    replay = make.replay(metrics=(*make.losses(60, wrong_from=3)[:50], *make.rates((0, 0.05))), data_files=())
    verdict = judge(original, replay)
    predicate = attest.verdict_predicate(
        verdict, original=examined(original), replay=examined(replay), judged_at="2026-11-20T16:00:00.000000Z"
    )
    schema.validate(predicate, "verdict-1")
    assert canonical.loads(canonical.dumps(predicate)) == predicate
    assert predicate["tolerances"] == [{"metric": "loss", "absolute": "1e-09"}]
    first = next(m for m in predicate["metrics"] if m["name"] == "loss")["first_difference"]
    assert (first["step"], len(first["original_bits"]), float(first["original"])) == (3, 8, original.metrics[3].value)


def test_a_word_without_its_reason_and_a_reason_without_its_word_do_not_fit_the_schema(make, examined):
    verdict = judge(make.original(), make.replay())
    predicate = attest.verdict_predicate(
        verdict, original=examined(make.original()), replay=examined(make.replay()), judged_at="2026-11-20T16:00:00Z"
    )
    for changes in ({"verdict": "INDETERMINATE"}, {"reason": "EVIDENCE_GAP"}, {"verdict": "PASSED"}, {"score": 99}):
        with pytest.raises(AlteredError):
            schema.validate({**predicate, **changes}, "verdict-1")


def test_who_replayed_is_told_by_the_keys(make, examined, sealed, store):
    ours, theirs = examined(make.original()), examined(make.replay())
    assert attest.relation(ours, theirs) == "same key"
    assert attest.relation(ours, replace(theirs, signers=("sha256:other",))) == "other key"
    assert attest.relation(ours, replace(theirs, signers=())) == "unknown"


def test_a_run_without_a_statement_has_no_digest_to_bind_to(make, examined):
    with pytest.raises(InconclusiveError):
        attest.manifest_digest(replace(examined(make.original()), statement=None))
