"""The order in which folders list their names: it differs between file systems, and between copies of one folder.

Only listings that the user's own code asks for are looked at, by `os.listdir`, `os.scandir`, and what is made of them:
`os.walk`, `glob`, `Path.iterdir`. Libraries list thousands of folders, and sort what they train on.

Stream: the function and the folder's last name, such as `os.listdir images`, counted per process. A value is the
SHA-256 of the names in ascending order of their bytes, each followed by a NUL, in hexadecimal; then, unless the names
came in that order, the place in it of each name in turn: big-endian numbers of 2 bytes, or 3 if there are more than
65,535 names. So the names themselves are not kept.
"""

from __future__ import annotations

import os

from . import sha256
from .callers import USER, Callers, StandIn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, Optional

    from repro.agent import Agent

MOST_NAMES = 100_000
"""Length of a listing up to which its order is kept; a gap tells of longer ones."""
MOST_NAMES_IN_ALL = 1_000_000
"""How many names' places are kept per process."""

_DIGEST_LENGTH = 64


class Listings:
    """The listings that this process's user code asks for.

    Args:
        agent: Where to tell them.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._callers = Callers("os", "glob", "pathlib")
        self._forget()
        agent.on_fork(self._forget)

    def watch(self, module: Any) -> None:
        """Take the places of `os.listdir` and `os.scandir`."""
        for name, after in (("listdir", self._after_listdir), ("scandir", self._after_scandir)):
            original = getattr(module, name)
            stand_in = StandIn(original, "os", after)
            setattr(module, name, stand_in)
            if original in module.supports_fd:
                module.supports_fd.add(stand_in)  # shutil looks whether it is there

    def _forget(self) -> None:
        self._names_left = MOST_NAMES_IN_ALL

    def _after_listdir(self, names: Any, args: Any, kwargs: Any) -> Any:
        site = self._callers.site(USER)
        if site is None:
            return names
        stream = "os.listdir " + _last_name(args, kwargs)
        ordered = self._agent.guard("randomness", stream, self._in_order, stream, site, names, names)
        return names if ordered is None else ordered

    def _after_scandir(self, scan: Any, args: Any, kwargs: Any) -> Any:
        site = self._callers.site(USER)
        if site is None:
            return scan
        entries: list[Any] = []
        failed: Optional[OSError] = None
        try:
            entries.extend(scan)
        except OSError as error:
            failed = error
        stream, names = "os.scandir " + _last_name(args, kwargs), [entry.name for entry in entries]
        ordered = self._agent.guard("randomness", stream, self._in_order, stream, site, names, entries)
        return ScandirIterator(entries if ordered is None else ordered, failed)

    def _in_order(self, stream: str, site: str, names: Sequence[Any], items: list[Any]) -> list[Any]:
        """Tell of a listing, and return its items: in the order they came in, or the recorded one."""
        if len(names) > MOST_NAMES or len(names) > self._names_left:
            self._agent.gap("randomness", stream, f"the order of {len(names)} names was not kept: there are too many")
            return items
        self._names_left -= len(names)
        keys = [os.fsencode(name) for name in names]
        ascending = sorted(range(len(keys)), key=keys.__getitem__)
        digest = sha256(b"".join([keys[at] + b"\0" for at in ascending]))

        def fits(recorded: str) -> bool:
            if recorded.startswith(digest):
                return True
            reason = "it held other names than when it was recorded: the order of its names was left as it is"
            self._agent.gap("randomness", stream, reason)
            return False

        value = digest + packed(ascending)
        used = self._agent.entropy(stream, value, "", fits=fits, site=site)
        return items if used == value else [items[ascending[rank]] for rank in unpacked(used, len(keys))]


class ScandirIterator:
    """What `os.scandir` returns, read to its end: with its methods, and the error it ended with, if any."""

    def __init__(self, entries: list[Any], failed: Optional[OSError]) -> None:
        self._entries = iter(entries)
        self._failed = failed

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        for entry in self._entries:
            return entry
        if self._failed is not None:
            failed, self._failed = self._failed, None
            raise failed
        raise StopIteration

    def __enter__(self) -> ScandirIterator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hand out nothing more."""
        self._entries, self._failed = iter(()), None


def packed(ascending: Sequence[int]) -> str:
    """Return each item's rank in turn, in hexadecimal; nothing if the items came in ascending order.

    Args:
        ascending: Where the items stand, in ascending order of the items.
    """
    if all(at == rank for rank, at in enumerate(ascending)):
        return ""
    ranks = [0] * len(ascending)
    for rank, at in enumerate(ascending):
        ranks[at] = rank
    width = _width(len(ranks))
    return b"".join([rank.to_bytes(width, "big") for rank in ranks]).hex()


def unpacked(value: str, count: int) -> Sequence[int]:
    """Return the ranks in a stream's value.

    Raises:
        ValueError: They are no permutation of that many.
    """
    data, width = bytes.fromhex(value[_DIGEST_LENGTH:]), _width(count)
    if not data:
        return range(count)
    ranks = [int.from_bytes(data[at : at + width], "big") for at in range(0, len(data), width)]
    if sorted(ranks) != list(range(count)):
        raise ValueError("the recorded order is none of these names")
    return ranks


def _width(count: int) -> int:
    return 2 if count <= 0xFFFF else 3


def _last_name(args: Any, kwargs: Any) -> str:
    """Return the last part of the path that is listed: it stays the same when the whole tree moves."""
    path = args[0] if args else kwargs.get("path")
    if path is None:
        return "."
    if isinstance(path, int):
        return "descriptor"
    return os.fsdecode(path).rstrip("/").rpartition("/")[2] or "/"
