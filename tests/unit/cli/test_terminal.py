"""What the commands print cannot drive the terminal, and lines up."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys

import pytest

from repro.cli import terminal
from repro.cli.show import _size


def test_recorded_text_cannot_drive_the_terminal() -> None:
    assert r"a\x1b[2Jb" + "\n" + r"\u202ec" == terminal.plain("a\x1b[2Jb\n\u202ec")


def test_columns_line_up_and_rows_stay_one_line() -> None:
    assert "name  value\na     1 2\nbcd   3" == terminal.table([("a", "1\n2"), ("bcd", "3")], header=("name", "value"))
    assert "" == terminal.table([])


def test_a_cut_is_marked() -> None:
    assert ("abc", "ab…") == (terminal.shorten("abc", 3), terminal.shorten("abcd", 3))


def test_progress_is_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.progress() as show:
        show("working")
        show("")
    assert ("", "repro: working\n") == capsys.readouterr()


def test_quiet_progress_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.progress(quiet=True) as show:
        show("working")
    assert ("", "") == capsys.readouterr()


def test_progress_on_a_terminal_is_gone_when_the_command_has_it() -> None:
    code = (
        "from repro.cli import terminal\n"
        "with terminal.progress() as show:\n"
        "    show('working [on it]')\n    show('')\n    print('the command', flush=True)\n    show('comparing')\n"
    )
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm"}
    ):
        os.close(theirs)
        shown = _read_all(ours)
    os.close(ours)
    assert shown.index(b"working [on it]") < shown.index(b"the command") < shown.index(b"comparing")


def _read_all(descriptor: int) -> bytes:
    text = io.BytesIO()
    while True:
        try:
            piece = os.read(descriptor, 4096)
        except OSError:  # the other end is closed
            return text.getvalue()
        if not piece:
            return text.getvalue()
        text.write(piece)


@pytest.mark.parametrize(
    ("size_bytes", "expected"),
    [(None, "?"), (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3 * 2**30, "3.0 GiB"), (5 * 2**40, "5.0 TiB")],
)
def test_sizes(size_bytes: int | None, expected: str) -> None:
    assert expected == _size(size_bytes)
