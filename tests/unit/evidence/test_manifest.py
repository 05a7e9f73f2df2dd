from __future__ import annotations

import dataclasses
import os
import struct
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from repro.errors import AlteredError, ExecutionError, InconclusiveError
from repro.evidence import canonical, manifest
from repro.evidence.model import Fact, Metric, Record


def test_a_record_survives(record: Record, tmp_path: Path) -> None:
    path = tmp_path / "manifest.duckdb"
    manifest.write(record, path)
    digest, _ = canonical.digest_file(path)
    assert repr(record) == repr(manifest.read(path, expected_digest=digest))  # NaN is not equal to itself
    assert 0o444 == path.stat().st_mode & 0o777
    assert ["manifest.duckdb"] == [name for name in os.listdir(tmp_path) if name.startswith(("manifest", ".manifest"))]


def test_metrics_keep_their_bits(record: Record, tmp_path: Path) -> None:
    path = tmp_path / "manifest.duckdb"
    manifest.write(record, path)
    bits = ["40026bb1af3a14cf", "8000000000000000", "7ff0000000000000", "7ff8000000000123", "0000000000000001"]
    assert bits == [struct.pack(">d", metric.value).hex() for metric in manifest.read(path).metrics[:5]]


def test_a_training_that_diverges_keeps_every_bit_of_its_nans(record: Record, tmp_path: Path) -> None:
    path = tmp_path / "manifest.duckdb"
    patterns = ["7ff8000000000000", "fff8000000000000", "7ff8000000000123", "3ff0000000000000"]
    metrics = tuple(
        Metric(
            process_key="main",
            name="loss",
            step=step,
            value=struct.unpack(">d", bytes.fromhex(patterns[step % 4]))[0],
            dtype="float64",
            at_seconds=float("nan") if step == 5 else 0.0,
        )
        for step in range(400)
    )
    manifest.write(dataclasses.replace(record, metrics=metrics), path)
    found = manifest.read(path).metrics
    assert patterns * 100 == [struct.pack(">d", metric.value).hex() for metric in found]
    assert [5] == [metric.step for metric in found if metric.at_seconds != 0.0]


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(st.floats(width=64), max_size=30),
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), unique=True, max_size=30),
)
def test_whatever_it_holds_survives(record: Record, tmp_path: Path, values: list[float], texts: list[str]) -> None:
    path = tmp_path / "manifest.duckdb"
    path.unlink(missing_ok=True)
    metrics = tuple(
        Metric(process_key="main", name="m", step=i, value=value, dtype="float64", at_seconds=0.0)
        for i, value in enumerate(values)
    )
    facts = tuple(Fact(topic="t", name=text, value=text, source="observed") for text in texts)
    manifest.write(dataclasses.replace(record, metrics=metrics, facts=facts), path)
    found = manifest.read(path)
    assert [struct.pack(">d", v) for v in values] == [struct.pack(">d", metric.value) for metric in found.metrics]
    assert sorted(texts) == [fact.name for fact in found.facts] == [fact.value for fact in found.facts]


def test_rows_come_back_in_the_order_of_their_keys(record: Record, tmp_path: Path) -> None:
    path = tmp_path / "manifest.duckdb"
    turned = dataclasses.replace(record, metrics=record.metrics[::-1], facts=record.facts[::-1])
    manifest.write(turned, path)
    assert repr(record) == repr(manifest.read(path))


def test_more_rows_than_one_insert_takes(record: Record, tmp_path: Path) -> None:
    path = tmp_path / "manifest.duckdb"
    metrics = tuple(
        Metric(process_key="main", name="loss", step=i, value=i / 7, dtype="float32", at_seconds=i / 3)
        for i in range(20_001)
    )
    manifest.write(dataclasses.replace(record, metrics=metrics), path)
    assert metrics == manifest.read(path).metrics


def test_long_texts_go_in_smaller_inserts(record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "_BATCH_CHARACTERS", 1000)
    path = tmp_path / "manifest.duckdb"
    fingerprints = tuple(
        dataclasses.replace(record.fingerprints[0], step=step, words=f"{step:016x}" * (step % 40))
        for step in range(200)
    )
    manifest.write(dataclasses.replace(record, fingerprints=fingerprints), path)
    assert fingerprints == manifest.read(path).fingerprints


def test_a_manifest_says_its_version_and_an_older_duckdb_can_read_it(record: Record, tmp_path: Path) -> None:
    path = tmp_path / "manifest.duckdb"
    manifest.write(record, path)
    with duckdb.connect(str(path), read_only=True) as connection:
        assert [(1,)] == connection.execute("SELECT * FROM manifest").fetchall()
        (tags,) = connection.execute("SELECT tags FROM duckdb_databases() WHERE NOT internal").fetchone() or ({},)
    assert "v1.2.0+" == tags["storage_version"]


def test_a_manifest_is_written_once(record: Record, tmp_path: Path) -> None:
    path = tmp_path / "manifest.duckdb"
    path.write_bytes(b"precious")
    with pytest.raises(ExecutionError, match="exists already"):
        manifest.write(record, path)
    assert b"precious" == path.read_bytes()


def test_a_row_that_duckdb_refuses_leaves_nothing(record: Record, tmp_path: Path) -> None:
    path = tmp_path / "manifest.duckdb"
    twice = dataclasses.replace(record, gaps=record.gaps * 2)
    with pytest.raises(ExecutionError, match=r"cannot write the manifest .*the table gap has two rows"):
        manifest.write(twice, path)
    with pytest.raises(ExecutionError, match="cannot write the manifest"):
        manifest.write(record, tmp_path / "missing" / "manifest.duckdb")
    assert ["home"] == os.listdir(tmp_path)


def test_a_quote_in_the_path_is_no_sql(record: Record, tmp_path: Path) -> None:
    path = tmp_path / "it's (a) ; manifest.duckdb"
    manifest.write(record, path)
    assert record.run == manifest.read(path).run


def test_another_digest_than_expected(record: Record, tmp_path: Path) -> None:
    path = tmp_path / "manifest.duckdb"
    manifest.write(record, path)
    digest, _ = canonical.digest_file(path)
    with pytest.raises(AlteredError, match=f"manifest.duckdb has the digest {digest}, the statement says sha256:00"):
        manifest.read(path, expected_digest="sha256:" + "00" * 32)


def test_a_manifest_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InconclusiveError, match=r"manifest\.duckdb is missing"):
        manifest.read(tmp_path / "manifest.duckdb")


@pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 65536])
def test_a_file_that_is_no_database(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "manifest.duckdb"
    path.write_bytes(content)
    with pytest.raises(AlteredError, match=r"manifest\.duckdb"):
        manifest.read(path)


def test_reading_leaves_the_file_and_its_directory_as_they_were(record: Record, tmp_path: Path) -> None:
    path = tmp_path / "manifest.duckdb"
    manifest.write(record, path)
    before = canonical.digest_file(path), path.stat().st_mtime_ns, sorted(os.listdir(tmp_path))
    manifest.read(path)
    assert before == (canonical.digest_file(path), path.stat().st_mtime_ns, sorted(os.listdir(tmp_path)))
