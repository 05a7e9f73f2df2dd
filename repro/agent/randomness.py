"""Where randomness comes from: seeds that are set, and entropy that unseeded generators start from.

While recording, both are read and told, never set. On a replay, what was recorded is put back: value by value, in the
order in which this process draws them.
"""

from __future__ import annotations

import os
import sys

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

_OWN_FOLDER = os.path.dirname(__file__) + "/"


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
        self.settings: dict[str, str] = self._of(process_key, self._document.get("settings", {}))

    def entropy(self, stream: str, value: str, library: str, restore: Optional[Callable[[str], None]] = None) -> str:
        """Tell of entropy drawn, and return the value to use: the one drawn, or the one recorded.

        Args:
            stream: The generator, such as `numpy.randbits`.
            value: What was drawn now.
            library: Path, or start of the paths, of the library's own code: not the call's site.
            restore: Puts a recorded value in place; called only on a replay and only if it differs.
        """
        ordinal = self._count(stream)
        if ordinal >= MOST_VALUES:
            self._agent.gap("randomness", stream, f"more than {MOST_VALUES} values were drawn; the rest is not kept")
            return value
        recorded = self._recorded(self._values, stream, ordinal)
        substituted = recorded is not None and recorded != value
        if recorded is not None and substituted:
            if restore is not None:
                restore(recorded)
            value = recorded
        self._agent.emit(
            "entropy", stream=stream, ordinal=ordinal, value=value, site=call_site(library), substituted=substituted
        )
        return value

    def seed(self, function: str, argument: Any, library: str, *, substitute: bool = True) -> Any:
        """Tell of a seed being set, and return the argument to use: the one passed, or the number recorded."""
        ordinal = self._count(function)
        if ordinal >= MOST_SEEDS:
            self._agent.gap("randomness", function, f"called more than {MOST_SEEDS} times; the rest is not kept")
            return argument
        text = _number_text(argument)
        recorded = self._recorded(self._seeds, function, ordinal) if substitute and text is not None else None
        substituted = recorded is not None and recorded != text
        if recorded is not None and substituted:
            argument = float(recorded) if isinstance(argument, float) else int(recorded)
            text = recorded
        self._agent.emit(
            "seed",
            function=function,
            ordinal=ordinal,
            argument=repr(argument)[:LONGEST_ARGUMENT] if text is None else text,
            site=call_site(library),
            substituted=substituted,
        )
        return argument

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


def call_site(library: str) -> str:
    """Return `file:line` of the innermost frame that is neither the agent's nor in the library."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith((_OWN_FOLDER, library, "<frozen ")):
            return f"{encode_path(name)}:{frame.f_lineno}"
        frame = frame.f_back
    return "<interpreter>:0"


def _number_text(argument: Any) -> Optional[str]:
    """Return a number as text that gives it back exactly; `None` if it is not a number."""
    if isinstance(argument, float):
        return repr(float(argument))
    try:
        return str(argument.__index__())
    except AttributeError:
        return None
