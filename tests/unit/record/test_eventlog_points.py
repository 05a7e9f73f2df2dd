"""Files of points are read as docs/adr/0013 says, whatever state a killed process left them in."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from repro.record import eventlog
from repro.record.eventlog import points

HEAD = b"repro points 1\n".ljust(32, b"\0")
LOSS = {"event": "series", "number": 1, "name": "loss", "dtype": "float32"}
RATE = {"event": "series", "number": 2, "name": "rate", "dtype": "float64"}


def record(step: int, value: float = 1.5, micros: int = 250_000, number: int = 1) -> bytes:
    return struct.pack("<qdqQ", step, value, micros, number)


@pytest.fixture
def read(write_log: Any) -> Any:
    """Write a log that names two series, and the bytes of its file of points; read both."""

    def read(content: bytes, *events: dict[str, Any]) -> eventlog.Events:
        folder: Path = write_log(*(events or (LOSS, RATE)))
        (folder / "7-1.points").write_bytes(content)
        return eventlog.read(folder)

    return read


def told(events: eventlog.Events) -> list[tuple[str, int, float, str, float]]:
    found, again = events.points.points()
    assert [] == again
    return [(m.name, m.step, m.value, m.dtype, m.at_seconds) for m in found]


def test_series_are_parted_and_keep_their_order(read: Any) -> None:
    content = b"".join(record(step, step / 3, step, 1) + record(step, 0.1, step, 2) for step in range(100))
    events = read(HEAD + content)
    assert [("loss", step, step / 3, "float32", step / 1e6) for step in range(100)] == told(events)[:100]
    assert [("rate", step, 0.1, "float64", step / 1e6) for step in range(100)] == told(events)[100:]
    assert [] == events.gaps


def test_a_change_of_type_is_one_series(read: Any) -> None:
    wide = {**LOSS, "number": 2, "dtype": "float64"}
    events = read(HEAD + record(0) + record(1, number=2) + record(2), LOSS, wide)
    assert ["float32", "float64", "float32"] == [dtype for _, _, _, dtype, _ in told(events)]


@pytest.mark.parametrize("tail", [b"", b"\0" * 4096, record(2)[:-8] + b"\0" * 8, record(2)[:31], record(2)[:8], b"\1"])
def test_what_a_killed_process_had_not_finished_is_dropped(read: Any, tail: bytes) -> None:
    events = read(HEAD + record(0) + record(1) + tail)
    assert ([0, 1], []) == ([step for _, step, *_ in told(events)], events.gaps)


def test_a_record_that_was_not_finished_loses_no_later_one(read: Any) -> None:
    events = read(HEAD + record(0) + record(1, number=0) + record(2))
    assert ([0, 2], []) == ([step for _, step, *_ in told(events)], events.gaps)


@pytest.mark.parametrize("content", [b"", b"\0" * 65536, HEAD[:20], HEAD])
def test_a_file_that_was_only_begun_holds_nothing(read: Any, content: bytes) -> None:
    events = read(content)
    assert ([], []) == (told(events), events.gaps)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"repro points 2\n".ljust(32, b"\0") + record(0), "1 of its points could not be read"),
        (HEAD + record(0, number=3) + record(1, number=3), "2 of its points could not be read"),
        (HEAD + record(-1), "1 of its points could not be read"),
        (HEAD + record(0, micros=-1), "1 of its points could not be read"),
        (HEAD + record(0, number=2**64 - 1), "1 of its points could not be read"),
    ],
)
def test_points_that_cannot_be_used_are_a_gap(read: Any, content: bytes, reason: str) -> None:
    events = read(content)
    assert ([], [("agent", "main", reason)]) == (told(events), [(g.topic, g.subject, g.reason) for g in events.gaps])


def test_one_bad_point_takes_no_good_one_along(read: Any) -> None:
    events = read(HEAD + record(0) + record(-5) + record(1, micros=-3) + record(2))
    assert [0, 2] == [step for _, step, *_ in told(events)]
    assert ["2 of its points could not be read"] == [gap.reason for gap in events.gaps]


def test_what_is_no_file_is_a_gap(write_log: Any) -> None:
    folder = write_log(LOSS)
    (folder / "7-1.points").mkdir()
    assert ["its points could not be read: Is a directory"] == [gap.reason for gap in eventlog.read(folder).gaps]


def test_a_file_longer_than_a_piece_is_read_whole(read: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points, "_PIECE_BYTES", 320)
    events = read(HEAD + b"".join(record(step, number=1 + step % 2) for step in range(1001)) + b"\0" * 100)
    assert 1001 == len(told(events))


def test_values_keep_their_bits(read: Any) -> None:
    patterns = [0x7FF8000000000001, 0xFFF0000000000000, 0x8000000000000000, 1]
    content = b"".join(struct.pack("<qQqQ", step, bits, 0, 1) for step, bits in enumerate(patterns))
    found = [struct.pack(">d", value).hex() for _, _, value, _, _ in told(read(HEAD + content))]
    assert [f"{bits:016x}" for bits in patterns] == found


def test_points_without_a_log_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "7-1.points").write_bytes(HEAD + record(0))
    (tmp_path / "8-1.jsonl").write_text(json.dumps(LOSS) + "\n", encoding="utf-8")
    assert [] == told(eventlog.read(tmp_path))
