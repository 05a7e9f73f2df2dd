"""Names of parameters, as the modules that hold them call them, found without having watched the modules being made.

The objects that the garbage collector knows are looked through once, when the first step is traced, and again when an
optimizer is given more parameters. Which modules matter, and in what order, depends on the parameters' order in the
optimizer alone, never on addresses or on the collector's order.
"""

from __future__ import annotations

import gc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MOST_SEARCHES = 16


class Names:
    """Finds names in this process.

    Args:
        torch: The module.
    """

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._searches = 0

    def of(self, tensors: list[Any], fallback: list[str]) -> list[str]:
        """Return a name for each tensor: that in its module, else the one to fall back to.

        Where the tensors come from several modules that no other module holds, the module's class goes before, with a
        number where a class occurs more than once.
        """
        places = {id(tensor): place for place, tensor in enumerate(tensors)}
        covers = []
        for root in self._roots():
            found = _names_below(root, places)
            if found:
                covers.append((-len(found), min(found), type(root).__name__, found))
        covers.sort(key=lambda cover: (*cover[:3], sorted(cover[3].items())))
        return _chosen(covers, fallback)

    def _roots(self) -> list[Any]:
        """Return the modules that are in no other module."""
        self._searches += 1
        if self._searches > _MOST_SEARCHES:
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
        held = {id(child) for module in modules for child in vars(module).get("_modules", {}).values()}
        return [module for module in modules if id(module) not in held]


def _names_below(root: Any, places: dict[int, int]) -> dict[int, str]:
    """Return the names that a module and those in it have for tensors: place to name, the first in their own order."""
    found: dict[int, str] = {}
    waiting, seen = [(root, "")], set()
    while waiting:
        module, prefix = waiting.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        inside = vars(module)
        for name, parameter in inside.get("_parameters", {}).items():
            place = places.get(id(parameter))
            if parameter is not None and place is not None:
                found.setdefault(place, prefix + name)
        children = inside.get("_modules", {}).items()
        waiting += [(child, f"{prefix}{name}.") for name, child in reversed(list(children)) if child is not None]
    return found


def _chosen(covers: list[tuple[int, int, str, dict[int, str]]], fallback: list[str]) -> list[str]:
    named: dict[int, tuple[int, str]] = {}
    used: list[str] = []
    for _, _, kind, found in covers:
        new = {place: name for place, name in found.items() if place not in named}
        if new:
            named.update({place: (len(used), name) for place, name in new.items()})
            used.append(kind)
    prefixes = [""] * len(used)
    if len(used) > 1:
        numbers = [used[:index].count(kind) for index, kind in enumerate(used)]
        prefixes = [f"{kind}[{number}]." if used.count(kind) > 1 else f"{kind}." for kind, number in zip(used, numbers)]
    return [
        prefixes[named[place][0]] + named[place][1] if place in named else name for place, name in enumerate(fallback)
    ]
