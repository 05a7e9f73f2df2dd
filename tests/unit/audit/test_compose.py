"""Reports: what they say, and that they say it of every state a record and its replay can be in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from repro.audit import attest, compose, tabulate
from repro.audit.report import document
from repro.evidence import canonical, schema, trust
from repro.evidence.store import Store

AT = "2026-11-20T16:00:00.000000Z"
WORDS_TO_AVOID = ("compliant", "certified", "tamper-proof", "immutable", "%")


def words(report):
    return tuple(light.word for light in report.lights)


def report_on(directory, store, **options):
    trusted = trust.trusted_keys(options.get("keys", store))
    report = compose.report_on(directory, store, trusted, reported_at=AT)
    schema.validate(document(report), "report-1")
    assert canonical.loads(canonical.dumps(document(report))) == document(report)
    assert report.counts.passed + report.counts.failed + report.counts.undetermined == len(report.checks)
    text = str(document(report))
    assert [word for word in WORDS_TO_AVOID if word in text.lower()] == []
    return report


def acts(report):
    return [finding.title for finding in report.findings if finding.level == "act"]


def table(report, title):
    return next(t for t in report.tables if t.title == title)


@pytest.fixture
def replayed(make, sealed, store):
    """Seal an original and its replay, attest them, and report."""

    def report_it(original=None, replay=None, **options):
        original = original or make.original()
        pair = sealed(original), sealed(replay or make.replay(original))
        attest.attest(*pair, store, trust.trusted_keys(store), **options)
        return report_on(pair[0], store)

    return report_it


def test_a_run_that_nobody_repeated(make, sealed, store):
    report = report_on(sealed(make.original()), store)
    assert words(report) == ("INTACT", "NOT-ATTEMPTED", "UNDETERMINED")
    assert (report.replay, acts(report)) == (None, [])
    assert (report.counts.failed, report.counts.undetermined) == (0, 0)
    assert [(c.name, c.original_steps, c.replay_steps) for c in report.curves] == [
        ("loss", 60, 0),
        ("learning_rate.0", 2, 0),
    ]
    assert len(table(report, "Outputs").rows) == 4


def test_a_run_that_was_repeated(replayed):
    report = replayed()
    assert words(report) == ("INTACT", "MATCHED-EXACTLY", "UNDETERMINED")
    assert (report.findings, report.counts.failed, report.counts.undetermined) == ((), 0, 0)
    assert report.lights[1].sentence == "Every metric and checkpoint came out the same, bit for bit."
    assert "a repetition, not an independent one" in report.lights[1].why[-1]
    assert any("repeated here, once" in sentence for sentence in report.not_said)
    assert report.curves[0].original == report.curves[0].replay
    assert report.curves[1].last_step == 59


def test_a_report_on_the_replay_is_the_report_on_its_original(make, sealed, store):
    pair = sealed(make.original()), sealed(make.replay())
    attest.attest(*pair, store, trust.trusted_keys(store))
    assert report_on(pair[0], store) == report_on(pair[1], store)


def test_the_newest_replay_is_reported(make, sealed, store):
    replay = make.replay()
    later = replace(replay, run=replace(replay.run, run_id="9" * 12, started_at="2026-11-21T00:00:00.000000Z"))
    directory = sealed(make.original())
    sealed(replay)
    sealed(later)
    assert report_on(directory, store).replay.run_id == "9" * 12


def test_the_same_run_gives_the_same_report_and_another_time_another_number(make, sealed, store):
    directory, trusted = sealed(make.original()), trust.trusted_keys(store)
    first, again = (compose.report_on(directory, store, trusted, reported_at=AT) for _ in range(2))
    other = compose.report_on(directory, store, trusted, reported_at="2026-11-20T16:00:00.000001Z")
    assert first == again
    assert first.report_id.startswith("a1b2c3d4e5f6-")
    assert first.report_id != other.report_id


def test_a_replay_that_differs(make, replayed):
    replay = make.replay(metrics=(*make.losses(60, wrong_from=17), *make.original().metrics[60:]))
    report = replayed(replay=replay)
    assert words(report)[1] == "DID-NOT-MATCH"
    assert (report.findings[0].title, report.findings[0].level) == ("The replay did not match", "act")
    assert report.curves[0].first_difference == 17
    (row,) = (row for row in table(report, "Metrics, bit by bit").rows if row[0] == "loss")
    assert row[3:5] == ("17 of 60", "17")
    assert len(row[7]) == len(row[8]) == 8
    assert [c.name for c in report.checks if c.outcome == "failed"] == ["Metric loss of main"]


def test_a_replay_under_other_conditions_says_which(make, replayed):
    replay = make.replay()
    replay = replace(
        replay,
        settings=tuple(replace(s, value="1") if "threads" in s.name else s for s in replay.settings),
        facts=tuple(replace(f, value="other") if f.name == "cpu_model" else f for f in replay.facts),
    )
    report = replayed(replay=replay)
    assert words(report)[1] == "MATCHED-EXACTLY"
    titles = {finding.title: finding.details for finding in report.findings}
    assert titles["The replay ran with 1 difference in settings"] == ("torch.num_threads",)
    assert titles["The replay ran with 1 difference in hardware"] == ("cpu_model",)
    assert [c.name for c in report.checks if c.outcome == "failed"] == ["Same settings"]


def test_differences_that_did_not_decide_are_told(make, replayed):
    replay = make.replay()
    rows = tuple(replace(r, digest=make.digest("x")) if r.path.endswith(".json") else r for r in replay.data_files)
    report = replayed(replay=replace(replay, data_files=rows))
    assert words(report)[1] == "MATCHED-EXACTLY"
    assert [(f.level, f.title, f.details) for f in report.findings] == [
        ("look", "Differences that did not decide", ("runs/timing.json differs",))
    ]


def test_changed_data_that_the_signed_verdict_knows_of_are_not_forgotten(replayed):
    report = replayed(changed_data=("data/x.csv",))
    assert words(report)[1] == "INDETERMINATE:DATA_CHANGED"
    assert acts(report) == ["The replay says nothing certain"]
    assert [c.outcome for c in report.checks if c.name == "Data before the replay"] == ["failed"]


def test_a_match_within_a_tolerance(make, replayed):
    original = make.original(tolerances=(make.tolerance("loss", 0.1),))
    rows = tuple(replace(r, digest=make.digest("x")) if r.path == "runs/best.pt" else r for r in original.data_files)
    replay = make.replay(original, metrics=(*make.losses(60, wrong_from=50), *original.metrics[60:]), data_files=rows)
    report = replayed(original, replay)
    outcomes = {check.name: check.outcome for check in report.checks}
    assert words(report)[1] == "MATCHED-WITHIN-TOLERANCE"
    assert outcomes["Metric loss of main"] == "passed"
    assert outcomes["Output runs/best.pt"] == "undetermined"


def test_a_verdict_that_is_not_signed_is_judged_anew_and_that_is_said(make, sealed, store):
    directory = sealed(make.original())
    sealed(make.replay())
    report = report_on(directory, store)
    assert words(report)[1] == "MATCHED-EXACTLY"
    assert acts(report) == ["The signed verdict cannot be relied on"]


def test_a_verdict_that_was_edited_is_found_and_judged_anew(make, sealed, store):
    pair = sealed(make.original()), sealed(make.replay())
    attest.attest(*pair, store, trust.trusted_keys(store))
    good = pair[1].verdict.read_bytes()
    pair[1].verdict.chmod(0o600)
    pair[1].verdict.write_bytes(good.replace(b'"sig":"', b'"sig":"AAAA', 1))
    assert "The signed verdict cannot be relied on" in acts(report_on(pair[0], store))


def test_a_signed_verdict_that_the_records_do_not_bear_out_is_found(make, sealed, store):
    from repro.evidence import seal

    pair = sealed(make.original()), sealed(make.replay(metrics=make.losses(60, wrong_from=2)))
    trusted = trust.trusted_keys(store)
    attest.attest(*pair, store, trusted)
    predicate, _ = attest.read_verdict(pair[1], trusted)
    forged = {**predicate, "verdict": "MATCHED-EXACTLY"}
    seal.write_once(pair[1].verdict, seal.seal_statement(seal.REPLAY_VERDICT, [], forged, store))
    report = report_on(pair[0], store)
    finding = next(f for f in report.findings if f.title == "The signed verdict cannot be relied on")
    assert words(report)[1] == "DID-NOT-MATCH"
    assert finding.details == ("It says MATCHED-EXACTLY; judged anew from the records, it is DID-NOT-MATCH.",)


def test_an_altered_record_is_reported_and_nothing_is_judged(make, sealed, store):
    pair = sealed(make.original()), sealed(make.replay())
    attest.attest(*pair, store, trust.trusted_keys(store))
    data = bytearray(pair[0].manifest.read_bytes())
    data[5000] ^= 1
    pair[0].manifest.chmod(0o600)
    pair[0].manifest.write_bytes(data)
    report = report_on(pair[0], store)
    assert words(report) == ("ALTERED", "NOT-ATTEMPTED", "UNDETERMINED")
    assert acts(report) == ["1 item of the record not as signed"]
    assert report.subject.outcome == "not known: the record cannot be read"
    assert report.curves == ()


def test_a_missing_object_is_reported_though_the_record_can_be_read(make, sealed, store):
    directory = sealed(make.original())
    store.objects.path(make.digest("import torch")).unlink()
    report = report_on(directory, store)
    assert words(report)[0] == "ALTERED"
    assert "missing" in report.findings[0].details[0]
    assert report.subject.outcome == "completed"


def test_an_unsigned_record_is_reported(make, sealed, store):
    directory = sealed(make.original())
    directory.statement.unlink()
    report = report_on(directory, store)
    assert words(report)[0] == "UNSIGNED"
    assert (report.subject.manifest_sha256, report.subject.statement_sha256) == ("", "")
    assert acts(report)


def test_an_unknown_signer_is_reported_with_the_fingerprint(make, sealed, store, tmp_path):
    report = report_on(sealed(make.original()), store, keys=Store(tmp_path / "elsewhere"))
    (keyid,) = trust.trusted_keys(store)
    assert words(report)[0] == "INTACT-UNKNOWN-SIGNER"
    assert (report.subject.signed_by, report.subject.signed_by_unknown) == ((), (keyid,))
    assert acts(report) == ["The record is signed by a key that this machine does not know"]
    assert [c.outcome for c in report.checks if c.name == "Signer of the record"] == ["undetermined"]


def test_what_the_replay_says_of_itself_is_told(make, replayed):
    replay = make.replay()
    known = make.facts("replay", isolation='["The network was not cut off."]', conditions='["cpu differs: a, here b"]')
    report = replayed(replay=replace(replay, facts=(*replay.facts, *known)))
    assert report.not_said[-1] == "About the isolation of the replay: The network was not cut off."
    assert [(f.title, f.details) for f in report.findings] == [
        ("Said before the replay started", ("cpu differs: a, here b",))
    ]
    assert ("executor", "venv") in table(report, "How it was replayed").rows


def test_gaps_are_told_once_with_the_runs_that_have_them(make, replayed):
    gaps = (make.gap("lock", "repro", "installed in place"),)
    report = replayed(make.original(gaps=gaps), make.replay(gaps=(*gaps, make.gap("data", "/x", "no"))))
    assert report.gaps == ("Record and replay: lock, repro: installed in place", "Replay: data, /x: no")
    assert len(table(report, "Gaps").rows) == 3
    assert report.counts.undetermined == 2
    assert "Not everything was seen in the record and the replay" in [f.title for f in report.findings]


def test_what_needs_a_person_in_the_record_itself(make, sealed, store):
    states = {"train.py": "modified", "built.so": "ignored", "/lib/a.py": "editable", "model.py": "committed"}
    record = make.original(code_files=tuple(make.code(path, path, state=state) for path, state in states.items()))
    rows = (replace(record.data_files[0], changed_during_run=True), *record.data_files[1:])
    record = replace(record, data_files=rows, run=replace(record.run, status="failed", exit_code=3))
    titles = {f.title: f.details for f in report_on(sealed(record), store).findings}
    assert titles["Files changed while the record ran"] == ("data/train.npz",)
    assert titles["2 code files of the record not as committed (kept in the record)"] == ("built.so", "train.py")
    (outside,) = (details for title, details in titles.items() if "editable installs" in title)
    assert outside == ("/lib/a.py",)
    assert titles["The record did not end well"] == ("failed with exit code 3",)


def test_many_metrics_are_not_all_drawn_and_that_is_said(make, sealed, store):
    metrics = tuple(m for rank in range(20) for m in make.losses(4, process_key=f"main/rank{rank}"))
    report = report_on(sealed(make.original(metrics=metrics)), store)
    assert (len(report.curves), report.curves_left_out) == (compose.MAX_CURVES, 20 - compose.MAX_CURVES)


def test_long_tables_and_cells_are_cut_and_that_is_said(make, sealed, store):
    files = tuple(make.code(f"f{n:04}.py", "import torch") for n in range(tabulate.MAX_ROWS + 7))
    record = make.original(code_files=files, facts=make.facts("hardware", note="x" * 5000))
    report = report_on(sealed(record), store)
    code = table(report, "Code")
    assert (len(code.rows), code.rows_left_out) == (tabulate.MAX_ROWS, 7)
    assert table(report, "Hardware").rows[0][1].endswith("… (5,000 characters)")


def test_a_long_curve_is_thinned(make, sealed, store):
    report = report_on(sealed(make.original(metrics=make.losses(5000))), store)
    assert report.curves[0].original_steps == 5000
    assert len(report.curves[0].original) <= 600


def test_every_signed_digest_is_in_the_annex(make, sealed, store):
    directory = sealed(make.original())
    report = report_on(directory, store)
    rows = table(report, "Verification: all signed digests").rows
    assert (directory.run_id, "manifest.duckdb", canonical.digest_file(directory.manifest)[0]) in rows
    assert {name for _, name, _ in rows if name.startswith("table metric")} == {"table metric, 62 rows"}
    assert any(name.startswith("objects/") for _, name, _ in rows)


def test_ranks_and_processes_that_did_not_say_goodbye_are_shown(make, sealed, store):
    record = make.original()
    processes = (replace(record.processes[0], rank=1, world_size=2, ended_at=None),)
    rows = table(report_on(sealed(replace(record, processes=processes)), store), "Processes").rows
    assert (rows[0][1], rows[0][3]) == ("1 of 2", "did not say goodbye")


def test_a_report_tells_where_the_training_parts(make, replayed):
    original = make.traced(make.original())
    replay = make.altered(make.altered(make.replay(original), 7, "gradient", 0, 2), 3, "rng.python")
    report = replayed(original, replay)
    assert (words(report)[1], report.trace.tone) == ("DID-NOT-MATCH", "bad")
    assert report.trace.sentence == "The runs part at step 7 of optimizer.0 in main."
    assert report.lights[1].sentence == "The runs part at step 7 of optimizer.0 in main, in the gradients."
    assert (
        report.lights[1]
        .why[0]
        .startswith("2 of 3 tensors: 0.weight [64, 3] float32 and 1 more: batch and weights were")
    )
    facts = dict(report.trace.facts)
    assert (facts["In what"], facts["Equal before"]) == ("the gradients, 2 of 3 tensors", "up to step 6")
    assert facts["Tensors"] == "0.weight [64, 3] float32, 6.weight [10, 64] bfloat16"
    assert [(a.compared_steps, a.equal_steps, a.first_difference) for a in report.trace.anchors] == [(11, 10, 7)]
    assert report.trace.notes[0].startswith("The state of Python's random generator differs from step 3")
    failed = {check.name: check.detail for check in report.checks if check.outcome == "failed"}
    assert failed == {"Trace of optimizer.0 in main": "equal at 10 of 11 traced steps"}


def test_a_report_tells_that_the_training_was_equal_step_by_step(make, replayed):
    report = replayed(make.traced(make.original()))
    assert (words(report)[1], report.trace.tone, report.trace.facts) == ("MATCHED-EXACTLY", "good", ())
    assert "189 fingerprints of 3 tensors at 11 traced steps, all of them equal" in report.trace.sentence
    assert (report.findings, report.counts.failed, report.counts.undetermined) == ((), 0, 0)


def test_a_trace_of_one_side_is_no_comparison(make, replayed):
    original = make.traced(make.original())
    report = replayed(original, make.replay(original, fingerprints=(), traced_tensors=()))
    assert (words(report)[1], report.trace.tone) == ("MATCHED-EXACTLY", "open")
    assert [c.detail for c in report.checks if c.outcome == "undetermined"] == [
        "equal at 0 of 0 traced steps; 11 traced on one side only"
    ]


def test_under_a_tolerance_another_trace_is_no_failed_check(make, replayed):
    original = make.traced(make.original(tolerances=(make.tolerance("loss", 0.1),)))
    report = replayed(original, make.altered(make.replay(original), 7, "gradient"))
    assert words(report)[1] == "MATCHED-WITHIN-TOLERANCE"
    assert [c.name for c in report.checks if c.outcome == "undetermined"] == ["Trace of optimizer.0 in main"]


def test_of_many_traces_those_that_differ_are_told(make, replayed):
    original = make.traced(make.original(), *(f"main/rank{rank:02}" for rank in range(40)))
    report = replayed(original, make.altered(make.replay(original), 7, "gradient", process_key="main/rank39"))
    assert (len(report.trace.anchors), report.trace.anchors_left_out) == (32, 8)
    assert report.trace.anchors[0].process_key == "main/rank39"


def test_a_run_that_nobody_repeated_has_no_trace_to_compare(make, sealed, store):
    assert report_on(sealed(make.traced(make.original())), store).trace is None
