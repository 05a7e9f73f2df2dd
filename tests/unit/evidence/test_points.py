"""Points in columns are the same rows in the same order, and the same manifest and digest, as rows are."""

from __future__ import annotations

import dataclasses
import struct
from array import array
from pathlib import Path

import duckdb
import pytest

from repro.errors import AlteredError
from repro.evidence import manifest, statement, tables
from repro.evidence.model import Metric, Record
from repro.evidence.points import Gathered, Points, Same, points_of


def row(name: str = "loss", step: int = 0, value: float = 1.5, dtype: str = "float32", key: str = "main") -> Metric:
    return Metric(process_key=key, name=name, step=step, value=value, dtype=dtype, at_seconds=step / 8)


ROWS = (
    *(row("acc", step, step / 3, "float64") for step in range(3)),
    *(row("loss", step, -0.0 if step % 2 else 1e300) for step in range(5000)),
    *(row("rate", step, 0.1, "float32" if step < 8 else "float64") for step in (0, 1, 7, 8, 1000)),
    row("loss", 4, float("inf"), key="main/rank1"),
)


def test_points_are_the_rows_they_were_made_of() -> None:
    points = points_of(ROWS[::-1])
    assert (len(ROWS), ROWS, ROWS) == (len(points), tuple(points), points)
    assert (ROWS[0], ROWS[-1], ROWS[2500], ROWS[5:9], ROWS[-2:]) == (
        points[0],
        points[-1],
        points[2500],
        points[5:9],
        points[-2:],
    )
    assert points == points_of(ROWS)
    assert hash(points) == hash(ROWS)
    assert repr(points) == repr(ROWS)
    assert points_of(points) is points
    assert points != points_of(ROWS[1:])
    with pytest.raises(IndexError):
        points[len(ROWS)]


def test_no_points() -> None:
    points = points_of(())
    assert (0, (), []) == (len(points), points, list(points))
    assert points == Points()


def test_steps_that_count_up_and_types_that_are_one_take_no_room() -> None:
    acc, loss, rate, _ = points_of(ROWS).series
    assert (range(3), range(5000), [0, 1, 7, 8, 1000]) == (acc.steps, loss.steps, list(rate.steps))
    assert (Same("float64", 3), Same("float32", 5000)) == (acc.dtypes, loss.dtypes)
    assert ["float32"] * 3 + ["float64"] * 2 == rate.dtypes


@pytest.mark.parametrize("most", [1, 2, 4095, 4096, 10_000])
def test_cells_are_cut_at_the_same_places_in_every_column(most: int) -> None:
    points = points_of(ROWS)
    cuts = {tuple(map(len, points.cells(name, most))) for name in ("process_key", "name", "step", "value", "dtype")}
    (lengths,) = cuts
    assert (len(ROWS), True) == (sum(lengths), max(lengths) <= most)


def test_of_points_with_one_key_the_first_is_kept() -> None:
    gathered = Gathered().with_rows([row(step=1, value=1.0), row(step=0, value=2.0), row(step=1, value=3.0)])
    points, again = gathered.points()
    assert ([(0, 2.0), (1, 1.0)], [("main", "loss", 1)]) == ([(p.step, p.value) for p in points], again)


def test_columns_of_several_metrics_are_parted() -> None:
    gathered = Gathered()
    gathered.add_columns([tuple(getattr(each, name) for each in ROWS) for name in Metric.__slots__])
    assert (points_of(ROWS), []) == gathered.points()


def test_adding_rows_leaves_what_was_gathered_alone() -> None:
    gathered = Gathered()
    gathered.add(("main", "loss"), (0,), (1.5,), ("float32",), (0.0,))
    both = gathered.with_rows([row(step=1)])
    assert (1, 2) == (len(gathered.points()[0]), len(both.points()[0]))


def test_manifest_digest_and_statement_are_those_of_the_rows(record: Record, tmp_path: Path) -> None:
    held, told = (dataclasses.replace(record, metrics=each) for each in (points_of(ROWS), ROWS))
    manifest.write(held, tmp_path / "held.duckdb")
    manifest.write(told, tmp_path / "told.duckdb")
    for name in ("held", "told"):
        found = manifest.read(tmp_path / f"{name}.duckdb").metrics
        assert [struct.pack(">d", each.value) for each in ROWS] == [struct.pack(">d", each.value) for each in found]
        assert found == ROWS
    assert tables.digests(held) == tables.digests(told)
    assert statement.storable(held) == statement.storable(told)


def test_a_name_that_cannot_be_stored_is_mended(record: Record) -> None:
    points = points_of([row("l\udfffss"), row("k")])
    assert ["k", "l\\udfffss"] == [
        each.name for each in statement.storable(dataclasses.replace(record, metrics=points)).metrics
    ]


def test_bits_of_every_float_survive(record: Record, tmp_path: Path) -> None:
    bits = [0x7FF8000000000001, 0xFFF0000000000000, 0x8000000000000000, 1, 0x3FB999999999999A]
    values = array("d", struct.pack(f"<{len(bits)}Q", *bits))
    gathered = Gathered()
    gathered.add(("main", "loss"), range(len(bits)), values, ["float64"] * len(bits), [0.0] * len(bits))
    held = dataclasses.replace(record, metrics=gathered.points()[0])
    manifest.write(held, tmp_path / "m.duckdb")
    found = manifest.read(tmp_path / "m.duckdb").metrics
    assert bits == [int.from_bytes(struct.pack(">d", each.value), "big") for each in found]


def test_a_manifest_with_a_key_twice_is_refused(record: Record, tmp_path: Path) -> None:
    path = tmp_path / "m.duckdb"
    manifest.write(dataclasses.replace(record, metrics=points_of([row(step=0), row(step=1)])), path)
    path.chmod(0o644)
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE metric SET step = 1")
    with pytest.raises(AlteredError, match="two rows with the key"):
        manifest.read(path)


def test_many_points_take_few_bytes(record: Record, tmp_path: Path) -> None:
    """Numbers are compressed in a large record: losses of float32, a millisecond apart, at under 20 bytes a point."""
    count = 300_000
    record = Record(run=record.run)
    losses = [struct.unpack("<f", struct.pack("<f", (step * 7919 % 65537) / 65537 + 0.5))[0] for step in range(count)]
    gathered = Gathered()
    times = [(1000 * step + step * 31 % 97) / 1e6 for step in range(count)]
    gathered.add(("main", "loss"), range(count), losses, ["float32"] * count, times)
    manifest.write(dataclasses.replace(record, metrics=gathered.points()[0]), tmp_path / "m.duckdb")
    assert (tmp_path / "m.duckdb").stat().st_size / count < 14
    assert list(manifest.read(tmp_path / "m.duckdb").metrics)[-1].value == losses[-1]
