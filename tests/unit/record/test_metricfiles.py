"""Numbers from files that a script wrote: which files, which rows, which names and steps; and what is passed over."""

from __future__ import annotations

import gzip
import json
import math
import struct
from typing import Any

import pytest

from repro.record.metricfiles import rule, tables
from repro.record.metricfiles.names import names_of
from repro.record.metricfiles.series import series
from repro.record.metricfiles.tables import NotRead, Table, read


def points(name: str, content: bytes | str, kept_bytes: int = 0, **options: Any) -> dict[str, tuple[Any, ...]]:
    """Return the series in a file: name to points."""
    raw = content.encode() if isinstance(content, str) else content
    return {s.name: s.points for table in read(name, raw, kept_bytes, **options) for s in series(table.rows)}


def lines(*rows: Any) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def test_a_table_of_values() -> None:
    found = points("metrics.csv", "epoch,loss,acc\n0,0.5,1\n1,0.25,2\n")
    assert {"loss": ((0, 0.5), (1, 0.25)), "acc": ((0, 1), (1, 2))} == found
    assert all(isinstance(value, int) for _, value in found["acc"])


@pytest.mark.parametrize(
    "text", ["0.1", "1e-45", "0.30000000000000004", "-1.7976931348623157e308", "5e-324", ".5", "3."]
)
def test_a_number_keeps_the_bits_of_its_text(text: str) -> None:
    (found,) = points("log.csv", f"step,loss\n7,{text}\n").values()
    assert struct.pack("<d", float(text)) == struct.pack("<d", found[0][1])


@pytest.mark.parametrize("text", ["1_000", "0x10", "1,5", "12%", "٣", "1e", "--1", "one"])
def test_what_python_alone_reads_as_a_number_is_none(text: str) -> None:
    assert {} == points("log.csv", f'step,loss\n7,"{text}"\n')


@pytest.mark.parametrize(("text", "expected"), [("nan", math.nan), ("-Infinity", -math.inf), ("inf", math.inf)])
def test_what_is_not_finite_is_a_value(text: str, expected: float) -> None:
    ((_, value),) = points("log.csv", f"step,loss\n7,{text}\n")["loss"]
    assert struct.pack("<d", expected) == struct.pack("<d", value)
    ((_, value),) = points("log.jsonl", '{"step": 7, "loss": NaN}\n')["loss"]
    assert math.isnan(value)


def test_marks_quotes_other_separators_and_gaps() -> None:
    expected = {"train loss, mean": ((3, 0.5), (9, 0.125)), "f1": ((5, 0.75),)}
    for mark in ("", "\ufeff", "# made by a tool\n"):
        text = f'{mark} step ,"train loss, mean",f1,note\r\n3,"0.5",,a\r\n5,,0.75,"two\nlines"\r\n\r\n9,0.125,,\r\n'
        assert expected == points("a.csv", text)
        assert expected == points("a.csv", text.replace(",", "\t").replace("loss\t", "loss,"))
        assert expected == points("a.csv.gz", gzip.compress(text.encode()))


def test_the_head_of_numpy_and_of_pandas() -> None:
    assert {"loss": ((0, 0.5), (1, 0.25))} == points("log.csv", "# step,loss\n0,0.5\n1,0.25\n")
    assert {"loss": ((0, 0.5),), "loss#2": ((0, 0.25),)} == points("log.csv", ",loss,loss\n0,0.5,0.25\n")
    assert {"loss": ((0, 0.5),)} == points("log.csv", "Unnamed: 0,loss\n0,0.5\n")


def test_the_head_again_is_no_row_and_a_short_row_is_broken() -> None:
    (table,) = read("log.csv", b"step,loss\n0,0.5\nstep,loss\n1\n2,0.25\n")
    assert ({"step": 0, "loss": 0.5}, {"step": 2, "loss": 0.25}, 1) == (*table.rows, table.broken)


def test_half_a_last_line_of_a_killed_writer() -> None:
    assert {"loss": ((0, 0.5),)} == points("log.csv", "step,loss\n0,0.5\n1,0.2", finished=False)
    assert {"loss": ((0, 0.5), (1, 0.2))} == points("log.csv", "step,loss\n0,0.5\n1,0.2")
    (table,) = read("log.jsonl", b'{"step": 0, "loss": 0.5}\n{"step": 1, "lo')
    assert (({"step": 0, "loss": 0.5},), 0) == (table.rows, table.broken)


def test_broken_lines_are_counted() -> None:
    (table,) = read("log.jsonl", b'{"step": 0}\nnot json\n[1]\n{"step": 1}\n')
    assert (2, 2) == (len(table.rows), table.broken)


def test_rows_from_before_the_run_are_not_its_own() -> None:
    old = "step,loss\n0,0.5\n1,0.25\n"
    assert {"loss": ((2, 0.125),)} == points("log.csv", f"{old}2,0.125\n", len(old))
    old = lines({"loss": 0.5})
    assert {"loss": ((0, 0.25),)} == points("log.jsonl", old + lines({"loss": 0.25}), len(old))
    with pytest.raises(NotRead, match="there before the run"):
        read("log.jsonl.gz", gzip.compress(old.encode()), 5)


def test_steps_come_from_the_finest_column_that_only_rises() -> None:
    rows = "epoch,batch,loss\n0,0,0.5\n0,1,0.25\n1,0,0.75\n"
    assert {"loss": ((0, 0.5), (1, 0.25), (2, 0.75))} == points("log.csv", rows)
    rows = "epoch,global_step,train/loss,val/loss\n0,9,0.5,\n0,9,,0.75\n1,19,0.25,\n1,19,,0.5\n"
    assert {"train/loss": ((9, 0.5), (19, 0.25)), "val/loss": ((9, 0.75), (19, 0.5))} == points("log.csv", rows)
    assert {"map": ((1, 0.5), (2, 0.75))} == points("results.csv", "Epoch, map\n1.0,0.5\n2.0,0.75\n")
    assert {"loss": ((0, 0.5), (1, 0.25))} == points("log.csv", "epoch,loss\n-1,0.5\n0.5,0.25\n")


def test_what_a_row_is_about_is_in_the_name() -> None:
    rows = [{"epoch": e, "split": s, "loss": e + len(s)} for e in (0, 1) for s in ("val", "train")]
    expected = {"loss{split=val}": ((0, 3), (1, 4)), "loss{split=train}": ((0, 5), (1, 6))}
    assert expected == points("log.jsonl", lines(*rows))
    rows = [{"step": step, "tag": tag, "value": step / 2} for step in (1, 2) for tag in ("loss", "lr")]
    assert ["value{tag=loss}", "value{tag=lr}"] == list(points("log.jsonl", lines(*rows)))
    rows = [{"step": 1, "level": "INFO", "rank": rank, "loss": rank} for rank in (0, 1)]
    assert {"loss{rank=0}": ((1, 0),), "loss{rank=1}": ((1, 1),)} == points("log.jsonl", lines(*rows))


def test_nested_objects_and_what_is_no_number() -> None:
    row = {"step": 1, "val": {"loss": 0.5, "per_class": [1, 2]}, "note": "x", "none": None, "best": True}
    assert {"val.loss": ((1, 0.5),), "best": ((1, True),)} == points("log.jsonl", lines(row))


def test_documents() -> None:
    assert {"accuracy": ((0, 0.5),), "by.f1": ((0, 1),)} == points("m.json", '{"accuracy": 0.5, "by": {"f1": 1}}')
    keras = {"loss": [0.5, 0.25], "val": {"loss": [1, 2]}}
    assert {"loss": ((0, 0.5), (1, 0.25)), "val.loss": ((0, 1), (1, 2))} == points("history.json", json.dumps(keras))
    trainer = {"best": 0.5, "log_history": [{"step": 5, "loss": 2}, {"step": 9, "loss": 1}]}
    expected = {"best": ((0, 0.5),), "log_history.loss": ((5, 2), (9, 1))}
    assert expected == points("trainer_state.json", json.dumps(trainer))
    assert {"loss": ((1, 2),)} == points("log.json", '[{"epoch": 1, "loss": 2}]')


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"\x80\x04\x95", "no text in UTF-8"),
        ("a.csv", "step,loss\n1,2\n".encode("utf-16"), "no text in UTF-8"),
        ("a.csv", b"", "no line with names"),
        ("a.csv", b"1,2\n3,4\n", "no line with names"),
        ("a.csv", b'step,loss\n1,"' + b"x" * 200_000, "parted into values"),
        ("a.csv.gz", b"no gzip", "cannot be decompressed"),
        ("a.csv.gz", gzip.compress(b"step,loss\n" * 9)[:-12], "cannot be decompressed"),
        ("a.csv.gz", gzip.compress(bytes(tables.MOST_BYTES + 1)), "larger than"),
        ("a.csv", b"x" * (tables.MOST_BYTES + 1), "larger than"),
        ("a.csv", b"step,loss\n" + b"1,2\n" * (tables.MOST_ROWS + 1), "more than 100,000 rows"),
        ("a.jsonl", b'{"a":1}\n' * (tables.MOST_ROWS + 1), "more than 100,000 rows"),
        ("a.jsonl", json.dumps({f"c{i}": i for i in range(300)}).encode(), "more than 256 columns"),
        ("a.jsonl", b"not json\n" * 30, "not JSON objects"),
        ("a.json", b"[" * 200_000, "not valid JSON"),
        ("a.json", b"9" * 5000, "not valid JSON"),
        ("a.json", b"3", "neither"),
        ("a.json", b"{", "not valid JSON"),
    ],
)
def test_what_is_no_table_of_numbers_is_passed_over(name: str, content: bytes, said: str) -> None:
    with pytest.raises(NotRead, match=said):
        read(name, content)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        *((p, True) for p in ("log.csv", "x/Metrics.CSV", "a.tsv", "a.jsonl", "a.ndjson.gz", "metrics.json")),
        *((p, True) for p in ("all_results.json", "trainer_state.json", "evalHistory.json", "test-scores.json")),
        *(
            (p, False)
            for p in (
                "config.json",
                "catalog.json",
                "a.txt",
                "a.parquet",
                "metrics",
                "a.csv.bz2",
                "wandb/x/metrics.json",
            )
        ),
    ],
)
def test_which_files_are_looked_at(path: str, expected: bool) -> None:
    assert expected == rule.is_wanted(path, None)


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["out/metrics.csv", "log.jsonl"], ["metrics.csv", "log.jsonl"]),
        (["a/metrics.csv", "b/metrics.csv"], ["a/metrics.csv", "b/metrics.csv"]),
        (["a/x/m.csv", "b/x/m.csv", "c/m.csv"], ["a/x/m.csv", "b/x/m.csv", "c/m.csv"]),
        (["m.csv", "a/m.csv"], ["m.csv", "a/m.csv"]),
        (["2026-11-21_10-03-12/m.csv", "2026-11-21_09-00-00/m.csv"], ["m.csv", "m.csv#2"]),
        (["runs/x7f3k2a9/m.csv", "runs/checkpoint-500/m.csv"], ["m.csv", "checkpoint-500/m.csv"]),
    ],
)
def test_names_of_files_come_out_the_same_on_a_replay(paths: list[str], expected: list[str]) -> None:
    assert expected == names_of(paths)


def test_the_settings_choose() -> None:
    patterns = ("logs/*.csv", "config.json")
    looked_at = [p for p in ("logs/a.csv", "b.csv", "x/config.json", "logs/a.txt") if rule.is_wanted(p, patterns)]
    assert ["logs/a.csv", "x/config.json"] == looked_at
    assert not rule.is_wanted("metrics.csv", ())


@pytest.mark.parametrize(
    ("path", "rows", "said"),
    [
        ("pred.csv", [{"epoch": 1, "id": 1, "p": 0.5}, {"epoch": 1, "id": 2, "p": 0.5}], "id tells samples apart"),
        ("metrics.jsonl", [{"y_true": 0, "p": 1}, {"y_true": 1, "p": 1}], "y_true tells samples apart"),
        ("train.csv", [{"width": 1.0}] * 3, "no column that counts steps, and its name"),
        ("metrics.csv", [{"loss": 1.0}] * 1001, "more than 1,000 rows and no column"),
    ],
)
def test_data_are_no_metrics(path: str, rows: list[tables.Row], said: str) -> None:
    with pytest.raises(NotRead, match=said):
        rule.check(path, Table(rows=tuple(rows)))


@pytest.mark.parametrize(
    ("path", "rows"),
    [
        ("anything.csv", [{"epoch": 1, "loss": 0.5}] * 5000),
        ("metrics.csv", [{"loss": 0.5}] * 1000),
        ("log.jsonl", [{"step": 1, "file": "train.py", "loss": 0.5}, {"step": 2, "file": "train.py", "loss": 0.5}]),
    ],
)
def test_logs_are_metrics(path: str, rows: list[tables.Row]) -> None:
    rule.check(path, Table(rows=tuple(rows)))
