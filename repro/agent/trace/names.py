"""Names of parameters, as the modules that hold them call them, found without having watched the modules being made.

The objects that the garbage collector knows are looked through once, when the first step is traced, and again when an
optimizer is given more parameters. Which modules matter, and in what order, depends on the parameters' order in the
optimizer alone, never on addresses or on the collector's order.
"""

from __future__ import annotations

import gc

from .models import held_by

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

_MOST_SEARCHES = 16


class Names:
    """Finds names in this process.

    Args:
        agent: Told of what cannot be found.
        torch: The module.
    """

    def __init__(self, agent: Agent, torch: Any) -> None:
        self._agent = agent
        self._torch = torch
        self._searches = 0

    def of(self, tensors: list[Any], fallback: list[str]) -> tuple[list[str], list[Any]]:
        """Return a name for each tensor, that in its module, else the one to fall back to; and the modules.

        The modules are those that no other module holds, the one with the most of the tensors first. Where there are
        several, the module's class goes before a name, with a number where a class occurs more than once.
        """
        places = {id(tensor): place for place, tensor in enumerate(tensors)}
        covers = []
        for root in self._roots():
            found = _names_below(root, places)
            if found:
                covers.append((-len(found), min(found), type(root).__name__, found, root))
        covers.sort(key=lambda cover: (*cover[:3], sorted(cover[3].items())))
        chosen = _chosen(covers)
        if not chosen and gc.get_freeze_count():
            self._gap("objects are hidden from the garbage collector (gc.freeze), and modules are found by it")
        return _named(chosen, fallback), [root for _, _, root in chosen]

    def _roots(self) -> list[Any]:
        """Return the modules that are in no other module."""
        self._searches += 1
        if self._searches > _MOST_SEARCHES:
            self._gap(
                f"the lists of parameters changed more than {_MOST_SEARCHES} times: no more modules are looked for"
            )
            return []
        base = self._torch.nn.Module
        kinds: dict[type, bool] = {}
        modules = []
        for thing in gc.get_objects():
            kind = type(thing)  # isinstance would ask proxies for the class of what they stand for
            known = kinds.get(kind)
            if known is None:
                known = kinds[kind] = issubclass(kind, base)
            if known:
                modules.append(thing)
        held = {id(child) for module in modules for child in held_by(module, "_modules").values()}
        return [module for module in modules if id(module) not in held]

    def _gap(self, reason: str) -> None:
        self._agent.gap("trace", "parameter names", reason)


def _names_below(root: Any, places: dict[int, int]) -> dict[int, str]:
    """Return the names that a module and those in it have for tensors: place to name, the first in their own order."""
    found: dict[int, str] = {}
    waiting, seen = [(root, "")], set()
    while waiting:
        module, prefix = waiting.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        for name, parameter in held_by(module, "_parameters").items():
            place = places.get(id(parameter))
            if parameter is not None and place is not None:
                found.setdefault(place, f"{prefix}{name}")
        children = held_by(module, "_modules").items()
        waiting += [(child, f"{prefix}{name}.") for name, child in reversed(list(children)) if child is not None]
    return found


def _chosen(covers: list[tuple[int, int, str, dict[int, str], Any]]) -> list[tuple[str, dict[int, str], Any]]:
    """Return the modules that name what none before them does: class, place to name, and the module."""
    named: set[int] = set()
    chosen = []
    for _, _, kind, found, root in covers:
        new = {place: name for place, name in found.items() if place not in named}
        if new:
            named.update(new)
            chosen.append((kind, new, root))
    return chosen


def _named(chosen: list[tuple[str, dict[int, str], Any]], fallback: list[str]) -> list[str]:
    names, kinds = list(fallback), [kind for kind, _, _ in chosen]
    for index, (kind, found, _) in enumerate(chosen):
        number = f"[{kinds[:index].count(kind)}]" if kinds.count(kind) > 1 else ""
        prefix = f"{kind}{number}." if len(kinds) > 1 else ""
        for place, name in found.items():
            names[place] = prefix + name
    return names
