from __future__ import annotations

import dataclasses

from repro.evidence import canonical, schema, seal, statement, tables
from repro.evidence.model import Metric, Record
from repro.evidence.store import Store


def predicate(record: Record, store: Store) -> dict[str, object]:
    return statement.predicate(record, tables.digests(record), store.objects)


def test_the_statement_says_what_an_auditor_asks_first(record: Record, store: Store) -> None:
    said = predicate(record, store)
    code = {"commit": "0" * 40, "dirty": True, "tree": canonical.tree_digest(record.code_files), "files": 2}
    assert code == said["code"]
    assert {"inputs_digest": None, "inputs": 1, "outputs": 1} == said["data"]
    assert {"cpu_model": "An honest processor"} == said["hardware"]
    assert {"hash_seed": "1234567890"} == said["randomness"]
    assert [dataclasses.asdict(gap) for gap in record.gaps] == said["gaps"]
    assert "12.499999" == said["wall_seconds"]
    assert [{"metric": "loss", "absolute": {"decimal": "1e-06", "bits": "3eb0c6f7a0b5ed8d"}}] == said["tolerances"]
    expected = {
        "process_key": "main",
        "name": "loss",
        "count": 6,
        "first": {"decimal": "2.302585", "bits": "40026bb1af3a14cf"},
        "last": {"decimal": "0.3333333333333333", "bits": "3fd5555555555555"},
    }
    assert [expected] == said["metrics"]


def test_the_statement_is_canonical_and_fits_its_schema(record: Record, store: Store) -> None:
    document = seal.run_statement(record, canonical.digest(b""), tables.digests(record), store)
    assert document == canonical.loads(canonical.dumps(document))
    schema.validate(document, "run-statement-1")


def test_a_record_with_nothing_but_a_run_fits_the_schema_too(record: Record, store: Store) -> None:
    run = dataclasses.replace(record.run, exit_code=None, signal="SIGKILL", status="killed", replay_of="0" * 12)
    bare = Record(run=run)
    document = seal.run_statement(bare, canonical.digest(b""), tables.digests(bare), store)
    schema.validate(document, "run-statement-1")
    assert {"commit": None, "dirty": None, "tree": canonical.tree_digest(()), "files": 0} == document["predicate"][
        "code"
    ]


def test_subjects_are_the_manifest_and_the_outputs(record: Record) -> None:
    digest = canonical.digest(b"")
    best = next(file for file in record.data_files if file.path == "best.pt")
    ignored = [
        dataclasses.replace(best, path="/tmp/x", category="temporary"),
        dataclasses.replace(best, path="unhashed", digest=None),
    ]
    more = dataclasses.replace(record, data_files=(*record.data_files, *ignored))
    expected = [statement.subject("manifest.duckdb", digest), statement.subject("output:best.pt", best.digest or "")]
    assert expected == statement.subjects(more, digest)
    assert {"name": "a", "digest": {"sha256": "b"}} == statement.subject("a", "sha256:b")


def test_objects_are_those_that_the_record_refers_to(record: Record, store: Store) -> None:
    found = statement.object_digests(record, store.objects)
    assert sorted(found) == found
    stored = {f"sha256:{path.parent.name}{path.name}" for path in store.objects.root.rglob("*") if path.is_file()}
    assert stored == set(found)
    outside = dataclasses.replace(record.data_files[3], path="/opt/lib.py", digest=canonical.digest(b"not stored"))
    assert found == statement.object_digests(dataclasses.replace(record, data_files=(outside,)), store.objects)


def test_metrics_are_summed_up_by_process_and_name_in_the_order_of_steps(record: Record, store: Store) -> None:
    def point(process_key: str, name: str, step: int) -> Metric:
        return Metric(process_key=process_key, name=name, step=step, value=step, dtype="float64", at_seconds=0.0)

    points = (point("b", "x", 10), point("b", "x", 9), point("a", "y", 0), point("a", "x", 0))
    said = predicate(dataclasses.replace(record, metrics=points), store)["metrics"]
    assert isinstance(said, list)
    assert [("a", "x", 1), ("a", "y", 1), ("b", "x", 2)] == [(s["process_key"], s["name"], s["count"]) for s in said]
    assert ("9.0", "10.0") == (said[2]["first"]["decimal"], said[2]["last"]["decimal"])


def test_a_record_that_can_be_stored_stays_itself(record: Record) -> None:
    assert record == statement.storable(record)


def test_what_utf8_cannot_hold_is_spelled_out(record: Record) -> None:
    run = dataclasses.replace(record.run, argv=("a\udc80", "b"), root="/\ud800")
    metric = dataclasses.replace(record.metrics[0], name="l\udfffss")
    clean = statement.storable(dataclasses.replace(record, run=run, metrics=(metric, *record.metrics[1:])))
    assert ("a\\udc80", "b") == clean.run.argv
    assert "/\\ud800" == clean.run.root
    assert ("l\\udfffss", "loss") == (clean.metrics[0].name, clean.metrics[1].name)
    assert record.facts == clean.facts
