from __future__ import annotations

import json
import math
import struct

import pytest

from repro.record import eventlog


def test_every_kind_of_event_is_read(write_log) -> None:
    folder = write_log(
        {"event": "library", "name": "torch", "version": "2.1"},
        {
            "event": "open",
            "path": "/d/a",
            "mode": "read",
            "library": "python",
            "size": 3,
            "mtime_ns": 5,
            "inode": 9,
            "at": 1.0,
        },
        {"event": "open", "path": "/d/b", "mode": "write", "library": "torch", "existed": True, "at": 2.0},
        {"event": "rename", "source": "/d/b", "target": "/d/c", "at": 2.5},
        {"event": "remove", "path": "/d/c"},
        {"event": "spawn", "executable": "python", "argv": ["python", "-I", "x.py"]},
        {"event": "seed", "function": "f", "ordinal": 0, "argument": "7", "site": "a.py:1", "substituted": True},
        {"event": "entropy", "stream": "s", "ordinal": 0, "value": "1", "site": "a.py:2"},
        {"event": "generator", "moment": "end", "generator": "torch.cpu", "sha256": "sha256:00"},
        {"event": "setting", "moment": "import", "name": "n", "value": "v"},
        {"event": "metric", "name": "loss", "step": 0, "value": (0.1).hex(), "dtype": "float32", "at": 0.25},
        {"event": "gap", "topic": "trace", "subject": "s", "reason": "r"},
        {"event": "end", "ended_at": 1_700_000_009.0},
    )
    events = eventlog.read(folder)
    assert events.gaps == [eventlog.Gap(topic="trace", subject="s", reason="r")]
    assert events.libraries == [("main", "torch", "2.1")]
    assert [(o.path, o.mode, o.library, o.at, o.existed) for o in events.opens] == [
        ("/d/a", "read", "python", 1_700_000_001.5, False),
        ("/d/b", "write", "torch", 1_700_000_002.5, True),
    ]
    assert (events.renames[0].source, events.renames[0].target) == ("/d/b", "/d/c")
    assert events.spawns[0].argv == ("python", "-I", "x.py")
    assert events.substituted == [("main", "f")]
    assert (events.entropy[0].stream, events.states[0].moment, events.settings[0].value) == ("s", "end", "v")
    assert (events.metrics[0].value, events.metrics[0].at_seconds) == (0.1, 0.25)
    assert events.ended_at == {"main": 1_700_000_009.0}


@pytest.mark.parametrize("tail", [b"\0" * 4096, b'{"event": "metr', b'{"event": "metr\0\0\0', b""])
def test_the_tail_of_a_killed_process_is_dropped(write_log, tail: bytes) -> None:
    events = eventlog.read(write_log({"event": "setting", "moment": "end", "name": "n", "value": "v"}, tail=tail))
    assert (len(events.settings), events.gaps) == (1, [])


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "-0x0.0p+0", "0x1.fffffep-130"])
def test_a_metric_keeps_its_bits(write_log, text: str) -> None:
    metric = {"event": "metric", "name": "loss", "step": 0, "value": text, "dtype": "float32", "at": 0.0}
    found = eventlog.read(write_log(metric)).metrics[0].value
    assert struct.pack(">d", float.fromhex(text)) == struct.pack(">d", found) or math.isnan(found)


BROKEN = [
    b"not json",
    b"[1]",
    b"null",
    b'{"event": "metric"}',
    b'{"event": "metric", "name": "l", "step": -1, "value": "0x1p0", "dtype": "f", "at": 0}',
    b'{"event": "metric", "name": "l", "step": true, "value": "0x1p0", "dtype": "f", "at": 0}',
    b'{"event": "metric", "name": "l", "step": 99999999999999999999, "value": "0x1p0", "dtype": "f", "at": 0}',
    b'{"event": "metric", "name": "l", "step": 1, "value": 0.5, "dtype": "f", "at": 0}',
    b'{"event": "metric", "name": "l", "step": 1, "value": "0x1p99999", "dtype": "f", "at": 0}',
    b'{"event": "metric", "name": "l", "step": 1, "value": "0x1p0", "dtype": "f", "at": NaN}',
    b'{"event": "setting", "moment": "noon", "name": "n", "value": "v"}',
    b'{"event": "open", "path": 1, "mode": "read", "library": "p"}',
    b'{"event": "open", "path": "/x", "mode": "look", "library": "p"}',
    b'{"event": "spawn", "executable": "x", "argv": "x"}',
    b'{"event": "start"}',
    b"\xff\xfe",
    b"[" * 100_000,
]


@pytest.mark.parametrize("line", BROKEN)
def test_a_broken_line_is_a_gap_and_the_rest_is_read(write_log, line: bytes) -> None:
    good = json.dumps({"event": "setting", "moment": "end", "name": "n", "value": "v"}).encode()
    events = eventlog.read(write_log(tail=line + b"\n" + good + b"\n"))
    assert len(events.settings) == 1
    assert [gap.reason for gap in events.gaps] == ["1 lines of its event log could not be read"]


def test_an_unknown_event_is_a_gap(write_log) -> None:
    events = eventlog.read(write_log({"event": "gradient"}, {"event": "gradient"}))
    assert [gap.reason for gap in events.gaps] == ["events of an unknown kind 'gradient' were not used"]


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 64, b'{"event": "start"', b'{"event": "start", "schema": 2}\n', b"[]\n"]
)
def test_a_log_without_a_start_is_a_gap(tmp_path, content: bytes) -> None:
    (tmp_path / "7-1.jsonl").write_bytes(content)
    events = eventlog.read(tmp_path)
    assert (events.starts, [gap.topic for gap in events.gaps]) == ([], ["agent"])
    assert eventlog.first_start(tmp_path) is None


def test_a_log_that_cannot_be_read_is_a_gap(tmp_path) -> None:
    (tmp_path / "7-1.jsonl").mkdir()
    assert "could not be read" in eventlog.read(tmp_path).gaps[0].reason
    assert eventlog.read(tmp_path / "missing").starts == []


def test_processes_come_in_the_order_in_which_they_started(write_log) -> None:
    write_log(key="main/fork.1", number=1000)
    folder = write_log(key="main", number=999)
    assert [start.process_key for start in eventlog.read(folder).starts] == ["main", "main/fork.1"]
    first = eventlog.first_start(folder)
    assert first is not None
    assert first.process_key == "main"


def test_a_lone_surrogate_is_made_storable(write_log) -> None:
    events = eventlog.read(write_log({"event": "setting", "moment": "end", "name": "\ud800", "value": "ä"}))
    events.settings[0].name.encode()
    assert events.settings[0].value == "ä"


def test_two_hundred_thousand_metrics_are_read(write_log) -> None:
    line = b'{"event":"metric","name":"loss","step":%d,"value":"0x1.8p+1","dtype":"float32","at":0.5}\n'
    events = eventlog.read(write_log(tail=b"".join(line % step for step in range(200_000))))
    assert (len(events.metrics), events.metrics[-1].step, events.gaps) == (200_000, 199_999, [])
