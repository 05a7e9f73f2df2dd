"""Where randomness comes from: seeds that are set, and entropy that unseeded generators start from.

While recording, both are read and told, never set. On a replay, what was recorded is put back: value by value, in the
order in which this process draws them. Each thread but the main one has streams of its own, named `STREAM@THREAD`:
threads race, and what one of them draws must not shift what the others are given.
"""

from __future__ import annotations

import sys
from _thread import get_ident

from .callers import call_site
from .process import encode_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional

    from repro.agent import Agent

MOST_VALUES = 1_000
"""How many values are kept per stream and process; a gap says when there are more."""
MOST_SEEDS = 100_000
"""How many seeds are kept per function and process."""
LONGEST_ARGUMENT = 200
"""How much is told of a seed that cannot be put back: an object of a class of the user's."""
LONGEST_SEED = 10_000
"""Length of the text up to which a seed is kept whole: the 624 words of a Mersenne Twister's key fit in."""


class Randomness:
    """Seeds and entropy of one process.

    Args:
        agent: Where to tell what was seen.
        path: The file of what to put back (`REPRO_ENTROPY`), or `None` while recording.
    """

    def __init__(self, agent: Agent, path: Optional[str]) -> None:
        self._agent = agent
        self._document: dict[str, Any] = self._read(path) if path else {}
        self.replaying = path is not None
        self.reset("")

    def reset(self, process_key: str) -> None:
        """Begin to count anew, as the process of that key."""
        self._ordinals: dict[str, int] = {}
        self._values: dict[str, list[str]] = self._of(process_key, self._document)
        self._seeds: dict[str, list[str]] = self._of(process_key, self._document.get("seeds", {}))
        self._seeds_anywhere: dict[str, frozenset[str]] = {}
        self.settings: dict[str, str] = self._of(process_key, self._document.get("settings", {}))

    def entropy(
        self,
        stream: str,
        value: str,
        library: str,
        restore: Optional[Callable[[str], None]] = None,
        fits: Optional[Callable[[str], bool]] = None,
        site: Optional[str] = None,
    ) -> str:
        """Tell of entropy drawn, and return the value to use: the one drawn, or the one recorded.

        Args:
            stream: The generator, such as `numpy.randbits`.
            value: What was drawn now.
            library: Path, or start of the paths, of the library's own code: not the call's site.
            restore: Puts a recorded value in place; called only on a replay and only if it differs.
            fits: Says whether a recorded value can be put in place at all; where it cannot, the one drawn stays.
            site: Who drew it, as `file:line`, where that is known.
        """
        stream += _thread_suffix()
        ordinal = self._count(stream)
        if ordinal >= MOST_VALUES:
            self._agent.gap("randomness", stream, f"more than {MOST_VALUES} values were drawn; the rest is not kept")
            return value
        recorded = self._recorded(self._values, stream, ordinal)
        substituted = recorded is not None and recorded != value and (fits is None or fits(recorded))
        if recorded is not None and substituted:
            if restore is not None:
                restore(recorded)
            value = recorded
        site = site or call_site(library)
        self._agent.emit("entropy", stream=stream, ordinal=ordinal, value=value, site=site, substituted=substituted)
        return value

    def seed(self, function: str, argument: Any, library: str) -> Any:
        """Tell of a seed being set, and return the argument to use: the one passed, or the one recorded."""
        suffix = _thread_suffix()
        stream = function + suffix
        ordinal = self._count(stream)
        if ordinal >= MOST_SEEDS:
            self._agent.gap("randomness", stream, f"called more than {MOST_SEEDS} times; the rest is not kept")
            return argument
        text = exact_text(argument)
        as_it_is = text is None or (suffix and text in self._recorded_anywhere(function))
        recorded = None if as_it_is else self._recorded(self._seeds, stream, ordinal)
        substituted = recorded not in (None, text)
        if recorded is not None and substituted:
            argument, text, substituted = self._put_back(stream, argument, text, recorded)
        self._agent.emit(
            "seed",
            function=stream,
            ordinal=ordinal,
            argument=repr(argument)[:LONGEST_ARGUMENT] if text is None else text,
            site=call_site(library),
            substituted=substituted,
        )
        return argument

    def _put_back(self, stream: str, argument: Any, text: Any, recorded: str) -> tuple[Any, Any, bool]:
        try:
            return like(argument, recorded), recorded, True
        except (ValueError, SyntaxError, TypeError):
            self._agent.gap("randomness", stream, "the recorded seed is of another kind: this one was left as it is")
            return argument, text, False

    def _recorded_anywhere(self, function: str) -> frozenset[str]:
        """Return the seeds that were recorded in any thread: those of a pool take their work in any order."""
        if function not in self._seeds_anywhere:
            lists = [values for stream, values in self._seeds.items() if stream.partition("@")[0] == function]
            self._seeds_anywhere[function] = frozenset(str(value) for values in lists for value in values)
        return self._seeds_anywhere[function]

    def _count(self, name: str) -> int:
        ordinal = self._ordinals.get(name, 0)
        self._ordinals[name] = ordinal + 1
        return ordinal

    def _recorded(self, source: dict[str, list[str]], name: str, ordinal: int) -> Optional[str]:
        if not self.replaying:
            return None
        values = source.get(name, ())
        if ordinal < len(values):
            return str(values[ordinal])
        self._agent.gap("randomness", name, f"the replay drew more than the {len(values)} values that were recorded")
        return None

    def _read(self, path: str) -> dict[str, Any]:
        import json

        try:
            with open(path, encoding="utf-8") as stream:
                document = json.load(stream)
            if isinstance(document, dict):
                return document
            raise ValueError("it is not a JSON object")
        except (OSError, ValueError) as error:
            self._agent.gap("randomness", encode_path(path), f"nothing was put back: {error}")
            return {}

    @staticmethod
    def _of(process_key: str, section: Any) -> dict[str, Any]:
        found = section.get(process_key) if isinstance(section, dict) else None
        return found if isinstance(found, dict) else {}


def exact_text(argument: Any) -> Optional[str]:
    """Return a seed as text that `like` gives back exactly; `None` if it is too long or of no such kind.

    Kinds are numbers, text, bytes, and sequences or one-dimensional arrays of integers.
    """
    if isinstance(argument, float):
        return repr(float(argument))
    if isinstance(argument, (str, bytes)):
        text = repr(argument) if len(argument) <= LONGEST_SEED else ""
    else:
        try:
            if not isinstance(argument, (list, tuple, range)) and not _is_array(argument):
                return str(argument.__index__())
            items = argument if len(argument) <= LONGEST_SEED else ()
            text = "[" + ", ".join([str(item.__index__()) for item in items]) + "]"
        except (AttributeError, TypeError):
            return None
    return text if len(text) <= LONGEST_SEED and len(argument) <= LONGEST_SEED else None


def like(argument: Any, text: str) -> Any:
    """Return what a text of `exact_text` stands for, as the kind of thing that an argument is.

    Raises:
        ValueError, SyntaxError, TypeError: The text stands for something of another kind.
    """
    if isinstance(argument, float):
        return float(text)
    if not isinstance(argument, (str, bytes, list, tuple, range)) and not _is_array(argument):
        return int(text)
    from ast import literal_eval

    value = literal_eval(text)
    kind = type(argument) if isinstance(argument, (str, bytes)) else list
    if not isinstance(value, kind):
        raise TypeError(text)
    return tuple(value) if isinstance(argument, tuple) else value


def _is_array(argument: Any) -> bool:
    return type(argument).__module__ == "numpy" and getattr(argument, "ndim", 0) == 1


def _thread_suffix() -> str:
    """Return what is added to the streams of the calling thread: nothing in the main one."""
    threading = sys.modules.get("threading")
    main = getattr(threading, "_main_thread", None)
    if main is None or main.ident == get_ident():
        return ""
    thread = threading._active.get(get_ident())  # type: ignore[union-attr]  # current_thread() would register one
    return "@thread" if thread is None else f"@{thread.name}"
