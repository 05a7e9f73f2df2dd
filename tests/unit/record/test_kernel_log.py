from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repro.record.kernel import bpf, log
from repro.record.kernel.journal import Journal, shared_memory

OPEN = {
    "event": "open",
    "pid": 7,
    "path": "/data/a",
    "mode": "read",
    "existed": True,
    "size": 3,
    "mtime_ns": 4,
    "ctime_ns": 5,
    "inode": 2**64 - 1,
    "device": 6,
    "at": 1.5,
}
LAYER = {"event": "layer", "schema": 1, "layer": "seccomp", "no_new_privs": True, "at": 1.0}
END = {"event": "end", "at": 2.0, "restarts": 1, "unresolved": 3}


def written(folder: Path, *events: object, tail: bytes = b"") -> log.KernelEvents:
    lines = b"".join(json.dumps(event).encode() + b"\n" for event in events)
    (folder / log.NAME).write_bytes(lines + tail)
    found = log.read(folder)
    assert found is not None
    return found


def test_no_log_is_told_from_an_empty_one(tmp_path: Path) -> None:
    assert log.read(tmp_path) is None
    assert written(tmp_path) == log.KernelEvents(layer="")


def test_an_open_is_read_with_the_state_before_it(tmp_path: Path) -> None:
    found = written(tmp_path, LAYER, OPEN, END)
    assert (found.layer, found.no_new_privs, found.complete) == ("seccomp", True, True)
    assert (found.restarts, found.unresolved, found.gaps) == (1, 3, [])
    (opened,) = found.opens
    assert (opened.size_bytes, opened.mtime_ns, opened.ctime_ns, opened.inode) == (3, 4, 5, 2**64 - 1)
    assert (opened.before, opened.device, opened.at) == (None, 6, 1.5)


def test_without_an_end_it_is_not_complete_and_half_a_line_is_dropped(tmp_path: Path) -> None:
    found = written(tmp_path, LAYER, OPEN, tail=b'{"event":"open","pi')
    assert (found.complete, len(found.opens), found.gaps) == (False, 1, [])


@pytest.mark.parametrize(
    "broken",
    [{}, [], "open", {"event": "nothing"}, OPEN | {"mode": "both"}, OPEN | {"pid": True}, OPEN | {"at": "now"}]
    + [{name: value for name, value in OPEN.items() if name != missing} for missing in ("pid", "path", "existed")],
)
def test_a_line_that_cannot_be_read_is_a_gap(broken: object, tmp_path: Path) -> None:
    found = written(tmp_path, LAYER, broken, OPEN, END)
    assert len(found.opens) == 1
    assert [gap.subject for gap in found.gaps] == [log.NAME]
    assert found.gaps[0].reason.startswith("1 lines")


def test_a_pid_that_is_used_twice_is_the_first_process(tmp_path: Path) -> None:
    process = {"event": "process", "pid": 7, "parent": 1, "name": "first", "at": 1.0}
    assert written(tmp_path, process, process | {"name": "second"}).processes[7].name == "first"


@given(data=st.binary(max_size=200))
def test_no_bytes_make_the_reader_fail(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("log")
    (folder / log.NAME).write_bytes(data)
    assert log.read(folder) is not None


@pytest.fixture
def log_fd(tmp_path: Path) -> int:
    return os.open(tmp_path / log.NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def test_what_waits_in_shared_memory_outlives_its_writer(log_fd: int, tmp_path: Path) -> None:
    shared = shared_memory()
    if os.fork() == 0:
        first = Journal(shared, log_fd)
        first.add(OPEN)
        first.not_resolved()
        os._exit(9)
    os.wait()
    assert log.read(tmp_path) == log.KernelEvents(layer="")
    second = Journal(shared, log_fd)
    second.restarted()
    second.end()
    found = log.read(tmp_path)
    assert (len(found.opens), found.restarts, found.unresolved, found.complete) == (1, 1, 1, True)


def test_more_than_there_is_room_for_is_written_in_order(log_fd: int, tmp_path: Path) -> None:
    journal = Journal(shared_memory(), log_fd)
    for number in range(3000):
        journal.add(OPEN | {"pid": number})
    journal.add({"event": "execute", "pid": 1, "parent": 0, "path": "/x", "argv": ["y" * 900_000], "at": 3.0})
    journal.end()
    found = log.read(tmp_path)
    assert [each.pid for each in found.opens] == list(range(3000))
    assert len(found.executions[0].argv[0]) == 900_000


def test_a_full_disk_harms_nobody_and_is_a_gap(tmp_path: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    shared = shared_memory()
    journal = Journal(shared, full)
    journal.add(OPEN)
    journal.flush()
    again = Journal(shared, os.open(tmp_path / log.NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
    again.end()
    assert [gap.subject for gap in log.read(tmp_path).gaps] == [log.NAME]


@pytest.mark.parametrize("machine", bpf.MACHINES)
def test_a_filter_is_made_of_whole_instructions_and_short_jumps(machine: str) -> None:
    code = bpf.program(bpf.MACHINES[machine])
    assert len(code) % 8 == 0
    assert len(code) // 8 < 4096  # BPF_MAXINSNS
    assert code.endswith(b"\x06\0\0\0\0\0\xff\x7f")  # whatever is not named goes on
