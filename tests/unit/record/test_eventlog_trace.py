"""The trace and hyperparameters in event logs: rows, the chain, and what broken lines do to it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from repro.evidence.model import Fingerprint, Gap, Hyperparameter, TracedTensor
from repro.record import eventlog

ABSENT = "-" * 16
ONE, TWO = "0123456789abcdef", "fedcba9876543210"


def chained(key: str, *told: tuple[str, int, str, str]) -> list[dict[str, Any]]:
    """Make trace events as the agent does; the links as ADR 0010 says, computed here on their own."""
    events, last = [], f"repro trace 1 {key}"
    for at, (anchor, step, field, words) in enumerate(told):
        last = hashlib.sha256("\n".join((last, anchor, str(step), field, words)).encode()).hexdigest()
        events.append(
            {
                "event": "trace",
                "anchor": anchor,
                "step": step,
                "field": field,
                "words": words,
                "at": at / 4,
                "chain": last,
            }
        )
    return events


STEPS = (
    ("optimizer.0", 0, "rng.torch", ONE),
    ("optimizer.1", 0, "gradient", TWO + ABSENT),
    ("optimizer.0", 0, "gradient", ONE + TWO),
    ("optimizer.0", 1, "gradient", ""),
)


def test_fingerprints_are_placed_within_their_step(write_log) -> None:
    told = chained("main", *STEPS)
    events = eventlog.read(write_log(*told))
    assert [(f.anchor, f.step, f.place, f.field, f.words) for f in events.fingerprints] == [
        ("optimizer.0", 0, 0, "rng.torch", ONE),
        ("optimizer.1", 0, 0, "gradient", TWO + ABSENT),
        ("optimizer.0", 0, 1, "gradient", ONE + TWO),
        ("optimizer.0", 1, 0, "gradient", ""),
    ]
    assert events.fingerprints[2] == Fingerprint(
        process_key="main",
        anchor="optimizer.0",
        step=0,
        place=1,
        field="gradient",
        words=ONE + TWO,
        at_seconds=0.5,
    )
    assert ({"main": told[-1]["chain"]}, []) == (events.chains, events.gaps)


def test_each_process_has_a_chain_of_its_own(write_log) -> None:
    write_log(*chained("main", *STEPS), number=1)
    folder = write_log(*chained("main/fork.1 ä", *STEPS[:2]), key="main/fork.1 ä", number=2)
    events = eventlog.read(folder)
    assert {"main", "main/fork.1 ä"} == set(events.chains)
    assert [] == events.gaps
    assert 64 == len(set(events.chains.values()).pop())


def test_a_process_that_traced_nothing_has_no_chain(write_log) -> None:
    assert {} == eventlog.read(write_log()).chains


def _gap(times: str, where: str) -> Gap:
    reason = f"the chain of its trace breaks {times}, first at {where}: lines were changed or lost"
    return Gap(topic="trace", subject="main", reason=reason)


@pytest.mark.parametrize("name", ["anchor", "step", "field", "words"])
def test_a_changed_event_breaks_the_chain_once(write_log, name: str) -> None:
    told = chained("main", *STEPS)
    told[2][name] = {"anchor": "optimizer.2", "step": 7, "field": "weight", "words": ONE + ONE}[name]
    events = eventlog.read(write_log(*told))
    where = f"{told[2]['anchor']}, step {told[2]['step']}, {told[2]['field']}"
    assert ({"main": "broken"}, [_gap("once", where)]) == (events.chains, events.gaps)
    assert 4 == len(events.fingerprints)


def test_an_event_that_was_taken_out_breaks_the_chain(write_log) -> None:
    told = chained("main", *STEPS)
    events = eventlog.read(write_log(*told[:1], *told[2:]))
    assert [_gap("once", "optimizer.0, step 0, gradient")] == events.gaps


def test_the_first_event_is_bound_to_the_process(write_log) -> None:
    assert [_gap("once", "optimizer.0, step 0, rng.torch")] == eventlog.read(write_log(*chained("other", *STEPS))).gaps


def test_events_that_change_places_break_the_chain(write_log) -> None:
    told = chained("main", *STEPS)
    events = eventlog.read(write_log(told[0], told[2], told[1], told[3]))
    assert [_gap("3 times", "optimizer.0, step 0, gradient")] == events.gaps


def test_the_half_line_of_a_killed_process_breaks_nothing(write_log) -> None:
    told = chained("main", *STEPS)
    events = eventlog.read(write_log(*told[:3], tail=json.dumps(told[3]).encode()[:-9]))
    assert ({"main": told[2]["chain"]}, []) == (events.chains, events.gaps)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("anchor", 1),
        ("step", -1),
        ("step", True),
        ("field", None),
        ("words", ONE[:-1]),
        ("words", ONE.upper()),
        ("words", "-" * 15 + "0"),
        ("words", ONE + "-" * 15 + " "),
        ("words", "é" * 16),
        ("words", [ONE]),
        ("at", float("nan")),
        ("chain", "0" * 63),
        ("chain", "G" * 64),
        ("chain", None),
    ],
)
def test_a_broken_trace_event_is_not_used_and_breaks_the_chain(write_log, name: str, value: object) -> None:
    told = chained("main", *STEPS)
    told[1][name] = value
    events = eventlog.read(write_log(*told))
    assert [
        _gap("once", "optimizer.0, step 0, gradient"),
        Gap(topic="agent", subject="main", reason="1 lines of its event log could not be read"),
    ] == events.gaps
    assert 3 == len(events.fingerprints)


TENSORS = {
    "event": "tensors",
    "anchor": "optimizer.0",
    "step": 0,
    "names": ["weight", "bias"],
    "shapes": [[2, 3], []],
    "dtypes": ["float32", "bfloat16"],
    "devices": ["cpu", "cuda:0"],
}


def test_a_list_of_tensors_and_the_one_that_replaces_it(write_log) -> None:
    later = {**TENSORS, "names": ["w"], "shapes": [[0]], "dtypes": ["int8"], "devices": ["cpu"]}
    found = eventlog.read(write_log({**TENSORS, "step": 5}, later, TENSORS)).traced_tensors
    assert [("main", "optimizer.0", 5), ("main", "optimizer.0", 0)] == list(found)
    assert (
        TracedTensor(
            process_key="main",
            anchor="optimizer.0",
            step=0,
            ordinal=0,
            name="weight",
            shape="[2, 3]",
            dtype="float32",
            device="cpu",
        ),
        TracedTensor(
            process_key="main",
            anchor="optimizer.0",
            step=0,
            ordinal=1,
            name="bias",
            shape="[]",
            dtype="bfloat16",
            device="cuda:0",
        ),
    ) == found["main", "optimizer.0", 0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("names", ["weight"]),
        ("shapes", [[2], 3]),
        ("shapes", [[2], [-1]]),
        ("shapes", [[2], [1.5]]),
        ("dtypes", [1, 2]),
        ("devices", "cpu"),
        ("step", None),
    ],
)
def test_a_broken_list_of_tensors_is_a_gap(write_log, name: str, value: object) -> None:
    events = eventlog.read(write_log({**TENSORS, name: value}))
    assert ({}, 1) == (events.traced_tensors, len(events.gaps))


def test_values_of_one_hyperparameter_are_counted(write_log) -> None:
    def given(source: str, name: str, value: object) -> dict[str, object]:
        return {"event": "hyperparameter", "source": source, "name": name, "value": value, "site": "t.py:3"}

    folder = write_log(
        given("argparse", "lr", "0.1"), given("argparse", "lr", "0.2"), given("hydra", "lr", "1"), given("x", "y", 1)
    )
    events = eventlog.read(folder)
    assert [("argparse", 0, "0.1"), ("argparse", 1, "0.2"), ("hydra", 0, "1")] == [
        (h.source, h.ordinal, h.value) for h in events.hyperparameters
    ]
    assert events.hyperparameters[0] == Hyperparameter(
        process_key="main", source="argparse", name="lr", ordinal=0, value="0.1", site="t.py:3"
    )
    assert ["1 lines of its event log could not be read"] == [gap.reason for gap in events.gaps]


METRIC = b'{"event":"metric","name":"%s","step":%s,"value":"%s","dtype":"float32","at":%s}\n'


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (METRIC % (b"loss", b"3", b"0x1.8p+1", b"0.500000"), "loss"),
        (METRIC % (b"a/b c", b"3", b"0x1.8p+1", b"5e-1"), "a/b c"),
        (METRIC % (b'\\"\\u00e4', b"3", b"0x1.8p+1", b"0.5"), '"ä'),
        (METRIC % ("ä".encode(), b"3", b"0x1.8p+1", b"0.5"), "ä"),
        (
            json.dumps(
                {"event": "metric", "dtype": "float32", "at": 0.5, "name": "m", "step": 3, "value": "0x1.8p+1"}
            ).encode()
            + b"\n",
            "m",
        ),
    ],
)
def test_a_metric_reads_the_same_however_its_line_is_written(write_log, line: bytes, name: str) -> None:
    """Lines as the agent writes them are read together, others one by one."""
    common = METRIC % (b"first", b"0", b"-0x0.0p+0", b"0.000000")
    events = eventlog.read(write_log(tail=common + line))
    found = {metric.name: metric for metric in events.metrics}
    assert ({"first", name}, []) == (set(found), events.gaps)
    assert (3, 3.0, "float32", 0.5) == (
        found[name].step,
        found[name].value,
        found[name].dtype,
        found[name].at_seconds,
    )


@pytest.mark.parametrize(
    "values",
    [
        (b"l", b"01", b"0x1p0", b"0"),
        (b"l", b"9223372036854775808", b"0x1.0p+0", b"0"),
        (b"l", b"0", b"0x1.0p+1024", b"0"),
        (b"l", b"0", b"0.5x", b"0"),
        (b"l", b"0", b"0x1.0p+0", b"01"),
        (b"l\n", b"0", b"0x1.0p+0", b"1"),
    ],
)
def test_a_broken_metric_among_good_ones(write_log, values: tuple[bytes, ...]) -> None:
    good = METRIC % (b"good", b"0", b"0x1.0p+0", b"0")
    events = eventlog.read(write_log(tail=good + METRIC % values + good.replace(b'"step":0', b'"step":1')))
    assert [("good", 0), ("good", 1)] == [(metric.name, metric.step) for metric in events.metrics]
    assert 1 == len(events.gaps)


def test_a_log_longer_than_a_piece_is_read_whole(write_log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eventlog, "_PIECE_BYTES", 512)
    told = chained("main", *(("optimizer.0", step, "gradient", ONE * 100) for step in range(50)))
    metrics = b"".join(METRIC % (b"loss", b"%d" % step, b"0x1.0p+0", b"0") for step in range(1000))
    events = eventlog.read(write_log(*told, tail=metrics + b'{"event": "met'))
    assert ({"main": told[-1]["chain"]}, []) == (events.chains, events.gaps)
    assert (50, list(range(1000))) == (len(events.fingerprints), [metric.step for metric in events.metrics])


def test_a_tampered_log_on_disk_is_seen(write_log, tmp_path: Path) -> None:
    folder = write_log(*chained("main", *STEPS))
    (log,) = folder.iterdir()
    log.write_bytes(log.read_bytes().replace(TWO.encode(), ONE.encode(), 1))
    assert [_gap("once", "optimizer.1, step 0, gradient")] == eventlog.read(folder).gaps
