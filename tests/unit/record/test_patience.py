from __future__ import annotations

import time
from pathlib import Path

import pytest

from repro.record.capture import Patience, data
from repro.record.kernel.log import KernelEvents, Opened


def test_a_signal_while_the_command_runs_costs_what_can_be_done_later_and_no_digest() -> None:
    patience = Patience(60)
    patience.lose()
    assert (True, False) == (patience.spent, patience.lost)
    patience.command_ended()
    assert (True, False) == (patience.spent, patience.lost)
    patience.lose()
    assert patience.lost


def test_hashing_ends_some_seconds_after_a_command_that_was_asked_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    patience = Patience(60)
    patience.command_ended()
    monkeypatch.setattr(Patience, "GRACE_SECONDS", 0.0)
    assert (False, False) == (patience.spent, patience.lost)
    hurried = Patience(60)
    hurried.lose()
    assert not hurried.lost
    hurried.command_ended()
    deadline = time.monotonic() + 60
    while not hurried.lost and time.monotonic() < deadline:
        time.sleep(0.001)
    assert hurried.lost


def test_what_was_not_hashed_in_time_is_one_gap(context, tmp_path: Path) -> None:
    root = tmp_path / "project"
    root.mkdir()
    for name in range(8):
        (root / f"{name}.bin").write_bytes(b"data")
    patience = Patience(60)
    patience.command_ended()
    patience.lose()
    opened = tuple(
        Opened(
            pid=1,
            path=str(root / f"{name}.bin"),
            mode="read",
            existed=True,
            size_bytes=None,
            mtime_ns=None,
            ctime_ns=None,
            inode=None,
            device=None,
            before=None,
            at=1e12,
        )
        for name in range(8)
    )
    found = data.after(context(root, patience=patience, kernel=KernelEvents(layer="seccomp", opens=opened)))
    [gap] = [gap for gap in found.gaps if gap.subject == "files"]
    assert gap.reason.startswith("the recorder was asked to end before it had hashed these: 0.bin, 1.bin, 2.bin")
    assert gap.reason.endswith("(8 files)")
