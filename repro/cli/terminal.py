"""What the commands share of the terminal: progress on standard error, answers on standard output, harmless text."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol


class Progress(Protocol):
    """Says what long work is doing; safe to call from any thread."""

    def __call__(self, message: str) -> None:
        """Show one line."""


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Progress]:
    """Yield a progress callback: a spinner on a terminal, plain lines elsewhere, nothing when quiet."""
    if quiet:
        yield _nothing
    elif sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True).status("", spinner="dots") as status:
            yield lambda message: status.update(plain(message))
    else:
        yield say


def _nothing(message: str) -> None:
    """Say nothing."""


def say(message: str) -> None:
    """Print one line to standard error, marked as ours: the recorded command writes there too."""
    print(f"repro: {plain(message)}", file=sys.stderr, flush=True)


def answer(document: object) -> None:
    """Print an answer as JSON to standard output."""
    print(json.dumps(document, indent=2, ensure_ascii=False, default=str))


def plain(text: str) -> str:
    """Make control and direction characters visible, so that recorded text cannot drive the terminal (threat 36)."""
    return "".join(_visible(c) for c in text)


def _visible(character: str) -> str:
    if character in "\n\t" or unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}:
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


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
