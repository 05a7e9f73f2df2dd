"""What the commands share of the terminal: progress on standard error, answers on standard output, harmless text."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.status import Status

Progress = Callable[[str], None]
"""Says what long work is doing; the empty message says that none is under way. Safe to call from any thread."""


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Progress]:
    """Yield a progress callback: a spinner on a terminal, plain lines elsewhere, nothing when quiet."""
    if quiet:
        yield _nothing
    elif sys.stderr.isatty():
        spinner = _Spinner()
        try:
            yield spinner
        finally:
            spinner("")
    else:
        yield lambda message: say(message) if message else None


class _Spinner:
    """A line that turns while work is under way, and is gone while the recorded command has the terminal."""

    def __init__(self) -> None:
        self._status: Status | None = None

    def __call__(self, message: str) -> None:
        if not message:
            if self._status is not None:
                self._status.stop()
        else:
            from rich.console import Console
            from rich.markup import escape

            if self._status is None:
                self._status = Console(stderr=True).status("", spinner="dots")
            self._status.update(escape(plain(message)))
            self._status.start()


def _nothing(message: str) -> None:
    """Say nothing."""


def say(message: str) -> None:
    """Print one line to standard error, marked as ours: the recorded command writes there too.

    Where it cannot be written (nobody reads any more, the disk is full) it is dropped: no line of ours is worth a run.
    """
    say_raw(f"repro: {plain(message)}")


def say_raw(line: str) -> None:
    """Print one line to standard error as it is, if it can be written."""
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:  # what could not be written would be tried again at the end, and cost the exit status
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115


def answer(document: object) -> None:
    """Print an answer as JSON to standard output."""
    print(json.dumps(document, indent=2, ensure_ascii=False, default=str))


def plain(text: str) -> str:
    """Make control and direction characters visible, so that recorded text cannot drive the terminal (threat 36)."""
    from repro.audit.visible import visible

    return "\n".join(map(visible, text.split("\n")))


def table(rows: Iterable[Sequence[str]], *, header: Sequence[str] = ()) -> str:
    """Lay out rows in columns two spaces apart; the last column is not padded."""
    cells = [[plain(cell).replace("\n", " ") for cell in row] for row in ([header] if header else []) + list(rows)]
    if not cells:
        return ""
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in cells)


def shorten(text: str, width: int) -> str:
    """Cut text to a width, marking the cut."""
    return text if len(text) <= width else text[: width - 1] + "…"
