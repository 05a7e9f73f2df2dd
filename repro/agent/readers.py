"""Watch the functions of a library that open files by themselves, past Python's `open`.

A table has one line for each function, `NAME POSITION KEYWORD [write]`: its path below the module, and where the path
of the file stands among its arguments (`self` counts). Functions that a version of the library lacks are passed over.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from repro.agent import Agent

_MOST_FILES = 10_000
"""How many files of one call are told; the kernel layer sees them all."""


def watch(module: Any, agent: Agent, library: str, table: tuple[str, ...]) -> None:
    """Tell of the files that functions of a module are given.

    Args:
        module: Just imported.
        agent: Where to tell it.
        library: What is said to open them.
        table: The functions.
    """
    for line in table:
        name, position, keyword, *write = line.split()
        owner: Any = module
        *path, last = name.split(".")
        for part in path:
            owner = getattr(owner, part, None)
        original = None if owner is None else getattr(owner, last, None)
        if original is not None:
            before = _teller(agent, library, int(position), keyword, bool(write))
            replace(owner, last, agent.wrap(original, before, "data", f"{library}.{name}"))


def replace(owner: Any, name: str, wrapper: Any) -> None:
    """Put a wrapper in a function's place; where the owner is a class written in C, that cannot be done."""
    try:
        setattr(owner, name, wrapper)
    except (TypeError, AttributeError):
        pass


def _teller(agent: Agent, library: str, position: int, keyword: str, write: bool) -> Callable[[Any, Any], None]:
    def before(args: Any, kwargs: Any) -> None:
        given = args[position] if len(args) > position else kwargs.get(keyword)
        for path in given[:_MOST_FILES] if isinstance(given, (list, tuple)) else (given,):
            if isinstance(path, (str, bytes, os.PathLike)):
                agent.opened(path, write=write, library=library)

    return before
