"""Written reports: one statement over all files, and files that cannot disagree unseen (threats 39 and 41)."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from repro.audit import attest, compose
from repro.audit.publish import check, write
from repro.audit.report import document, identified, parse
from repro.errors import AlteredError, ExecutionError, InconclusiveError, UsageError
from repro.evidence import canonical, seal, trust
from repro.evidence.store import Store


@pytest.fixture
def made(make, sealed, store):
    pair = sealed(make.original()), sealed(make.replay())
    trusted = trust.trusted_keys(store)
    attest.attest(*pair, store, trusted)
    return compose.report_on(pair[0], store, trusted, reported_at="2026-11-20T16:00:00.000000Z")


@pytest.fixture
def written(made, store, tmp_path):
    write(made, tmp_path / "report", ("html", "text"), store)
    return tmp_path / "report"


def overwrite(path, data):
    path.chmod(0o600)
    path.write_bytes(data)


def test_every_format_and_the_statement_are_written(made, store, tmp_path):
    paths = write(made, tmp_path / "a" / "b", ("html", "text"), store)
    assert [p.name for p in paths] == ["report.html", "report.json", "report.txt", "report.dsse.json"]
    assert {p.stat().st_mode & 0o777 for p in paths} == {0o444}
    assert sorted(p.name for p in (tmp_path / "a" / "b").iterdir()) == sorted(p.name for p in paths)


def test_json_is_written_whatever_is_asked_for(made, store, tmp_path):
    assert [p.name for p in write(made, tmp_path / "r", (), store)] == ["report.json", "report.dsse.json"]


def test_a_format_that_is_not_there_is_named_and_nothing_is_written(made, store, tmp_path):
    with pytest.raises(UsageError, match="pdf"):
        write(made, tmp_path / "r", ("pdf",), store)
    assert not (tmp_path / "r").exists()


def test_the_same_report_is_written_in_the_same_bytes(made, store, written, tmp_path):
    write(made, tmp_path / "again", ("html", "text"), store)
    for name in ("report.html", "report.json", "report.txt", "report.dsse.json"):
        assert (tmp_path / "again" / name).read_bytes() == (written / name).read_bytes()


def test_an_earlier_report_is_replaced(made, store, written):
    later = identified(replace(made, reported_at="2026-11-21T00:00:00.000000Z"))
    write(later, written, ("html", "text"), store)
    assert check(written, trust.trusted_keys(store))[0] == later


def test_a_page_of_an_earlier_report_does_not_stay_beside_a_new_one(made, store, written):
    write(made, written, ("html",), store)
    assert not (written / "report.txt").exists()
    assert check(written, trust.trusted_keys(store))[0] == made


def test_a_page_that_no_statement_covers_is_found(made, store, written):
    write(made, written, ("html",), store)
    (written / "report.txt").write_text("all is well")
    with pytest.raises(AlteredError, match=r"report\.txt is not covered"):
        check(written, trust.trusted_keys(store))


def test_where_nothing_can_be_written_is_said(made, store, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ExecutionError, match="cannot write"):
        write(made, tmp_path / "file", (), store)


def test_a_written_report_reads_back_as_the_same(made, store, written):
    found, signers = check(written, trust.trusted_keys(store))
    assert found == made
    assert signers == tuple(trust.trusted_keys(store))


def test_the_statement_names_the_runs_and_the_lights(written):
    import base64

    envelope = json.loads((written / "report.dsse.json").read_bytes())
    statement = json.loads(base64.b64decode(envelope["payload"]))
    assert statement["predicateType"] == seal.AUDIT_REPORT
    assert statement["predicate"]["lights"] == {
        "Record": "INTACT",
        "Replay": "MATCHED-EXACTLY",
        "Policy": "UNDETERMINED",
    }
    assert [run["run_id"] for run in statement["predicate"]["examined"]] == ["a1b2c3d4e5f6", "0f1e2d3c4b5a"]
    assert [s["name"] for s in statement["subject"]] == ["report.html", "report.json", "report.txt"]


@pytest.mark.parametrize("name", ["report.html", "report.json", "report.txt", "report.dsse.json"])
def test_one_byte_changed_in_any_file_is_found(written, store, name):
    data = bytearray((written / name).read_bytes())
    data[len(data) // 2] ^= 1
    overwrite(written / name, bytes(data))
    with pytest.raises(AlteredError):
        check(written, trust.trusted_keys(store))


def test_39_an_edited_report_with_its_pages_made_anew_under_the_old_signature_is_found(made, store, written, tmp_path):
    lights = (made.lights[0], replace(made.lights[1], word="DID-NOT-MATCH", tone="bad"), made.lights[2])
    forged = identified(replace(made, lights=lights))
    write(forged, tmp_path / "forged", ("html", "text"), store)
    for name in ("report.html", "report.json", "report.txt"):
        overwrite(written / name, (tmp_path / "forged" / name).read_bytes())
    with pytest.raises(AlteredError, match=r"report\.json was altered"):
        check(written, trust.trusted_keys(store))


def test_41_a_page_that_says_something_else_is_found_though_it_is_rightly_signed(made, store, written):
    page = (written / "report.html").read_bytes().replace(b"MATCHED-EXACTLY", b"MATCHED-KINDA-OK")
    overwrite(written / "report.html", page)
    names = ("report.html", "report.json", "report.txt")
    subjects = [(name, canonical.digest((written / name).read_bytes())) for name in names]
    seal.write_once(written / "report.dsse.json", seal.seal_statement(seal.AUDIT_REPORT, subjects, {}, store))
    with pytest.raises(AlteredError, match=r"report\.html does not say what report\.json says"):
        check(written, trust.trusted_keys(store))


def test_a_statement_that_leaves_the_report_out_is_found(written, store):
    seal.write_once(written / "report.dsse.json", seal.seal_statement(seal.AUDIT_REPORT, [], {}, store))
    with pytest.raises(AlteredError, match="does not cover"):
        check(written, trust.trusted_keys(store))


@pytest.mark.parametrize("name", ["report.html", "report.json", "report.dsse.json"])
def test_a_file_that_is_missing_is_named(written, store, name):
    (written / name).unlink()
    with pytest.raises(InconclusiveError, match=name):
        check(written, trust.trusted_keys(store))


def test_a_report_by_a_stranger_has_no_signer(written, tmp_path):
    assert check(written, trust.trusted_keys(Store(tmp_path / "elsewhere")))[1] == ()


def test_a_report_whose_number_does_not_fit_is_refused(made):
    edited = {**document(made), "reported_at": "2026-11-20T16:00:01.000000Z"}
    with pytest.raises(AlteredError, match="number"):
        parse(json.dumps(edited).encode())


@pytest.mark.parametrize(
    "changes",
    [
        {"schema_version": 2},
        {"lights": []},
        {"counts": {"passed": 1, "failed": 0}},
        {"report_id": "</style><script>"},
        {"score": "99"},
        {"curves": [{}]},
    ],
)
def test_what_is_no_report_is_refused(made, changes):
    with pytest.raises(AlteredError, match="report-1"):
        parse(json.dumps({**document(made), **changes}).encode())


def test_lights_cannot_change_places(made):
    plain = document(made)
    with pytest.raises(AlteredError, match="report-1"):
        parse(json.dumps({**plain, "lights": plain["lights"][::-1]}).encode())


def test_lone_surrogates_become_text_that_can_be_stored(made):
    odd = replace(made, not_said=("\ud800",))
    assert document(odd)["not_said"] == ["\\ud800"]
