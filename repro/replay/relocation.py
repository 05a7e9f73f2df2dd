"""Paths that a replay has to change: the recorded tree and environment lie elsewhere now."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_BEFORE: Final = r"""(?:(?<![^\s"'=:,;(\[{<>|&@])|(?<=file://)|(?<=(?<![^\s"'])-[A-Za-z]))"""
_AFTER: Final = r"""(?=$|[/\s"'=:,;)\]}<>|&])"""
_WITHIN: Final = r"""[^\s"'=:,;)\]}<>|&]"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One path prefix: where it lay when recorded, and where it lies in the replay. Absolute, no slash at the end."""

    recorded: str
    here: str


def relocate(text: str, moves: Iterable[Move]) -> str:
    """Rewrite each path in a text that lies at or under a moved prefix; the longest prefix wins, and only once.

    A path begins at the start of the text, after white space, a quote, one of `=:,;([{<>|&@`, `file://` or a one-letter
    option (`-d/data`), so that lists of paths, `--data=/x` and whole shell commands are covered.
    """
    table = {move.recorded: move.here for move in moves}
    if not table:
        return text
    longest_first = sorted(table, key=len, reverse=True)
    pattern = f"{_BEFORE}({'|'.join(map(re.escape, longest_first))}){_AFTER}"
    return re.sub(pattern, lambda found: table[found[1]], text)


def paths_named(text: str) -> tuple[str, ...]:
    """Return the absolute paths that a text names, without slashes at the end."""
    return tuple(found.rstrip("/") or "/" for found in re.findall(f"{_BEFORE}(/{_WITHIN}*)", text))


def path_map(moves: Iterable[Move]) -> str:
    """Return the fact `replay/path_map`: a JSON list of `[recorded prefix, replayed prefix]`, the longest first."""
    ordered = sorted(moves, key=lambda move: (-len(move.recorded), move.recorded))
    return json.dumps([[move.recorded, move.here] for move in ordered])
