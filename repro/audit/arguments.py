"""Command lines, item by item under the name of the option that each belongs to."""

from __future__ import annotations

import re
from typing import Final

_NUMBER: Final = re.compile(r"-(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
GIVEN: Final = "given"
"""Stands for the value of an option that has none."""


def named_arguments(argv: tuple[str, ...]) -> dict[str, str]:
    """Return every item of a command under a name.

    `--lr 0.05` and `--lr=0.05` both become `--lr`. Whether an option takes the item behind it as its value is not
    known, so it is assumed to. Other items are `command` and `argument N`, counted from 1. A repeated option is
    numbered from its second occurrence on: `--tag (2)`.
    """
    named: dict[str, str] = {}
    position, index, options_ended = 0, 0, False
    while index < len(argv):
        item = argv[index]
        index += 1
        if item == "--" and not options_ended:
            options_ended = True
        elif _is_option(item) and not options_ended:
            name, equals, value = item.partition("=")
            if not equals and index < len(argv) and not _is_option(argv[index]):
                value = argv[index]
                index += 1
            elif not equals:
                value = GIVEN
            named[_free(name, named)] = value
        else:
            named["command" if not position else f"argument {position}"] = item
            position += 1
    return named


def _is_option(item: str) -> bool:
    return len(item) > 1 and item.startswith("-") and not _NUMBER.match(item)


def _free(name: str, taken: dict[str, str]) -> str:
    count = 2
    unique = name
    while unique in taken:
        unique = f"{name} ({count})"
        count += 1
    return unique
