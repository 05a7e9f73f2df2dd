"""The tensors in what is saved or loaded, with the keys that lead to them.

Nothing of the user's is called: dictionaries, lists, tuples, modules and plain objects are opened by what they hold,
never by a property, a `__repr__` or an iterator of their own.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Optional

MOST_VISITED = 1 << 18
"""How many things are looked at, tensors or not."""
_DEEPEST = 24
_PLAIN = (str, bytes, int, float, complex, bool, type(None))


class TooMany(Exception):
    """There is more in it than is looked at."""


def named_tensors(value: Any, torch: Optional[Any]) -> list[tuple[str, Any]]:
    """Return each tensor of torch, and each array of NumPy that holds no objects, under its keys joined by dots.

    Args:
        value: What is saved.
        torch: The module; `None` where the process has none.

    Raises:
        TooMany: More than `MOST_VISITED` things.
    """
    return list(_Walk(torch).below("", value, 0))


class _Walk:
    def __init__(self, torch: Optional[Any]) -> None:
        numpy = sys.modules.get("numpy")
        self._array: Any = getattr(numpy, "ndarray", ())
        self._tensor: Any = () if torch is None else torch.Tensor
        self._module: Any = () if torch is None else torch.nn.Module
        self._visited = 0
        self._objects: set[int] = set()

    def below(self, name: str, value: Any, depth: int) -> Iterator[tuple[str, Any]]:
        """Yield what is found in a value."""
        self._visited += 1
        if self._visited > MOST_VISITED:
            raise TooMany
        if isinstance(value, self._tensor):
            yield name, value
        elif isinstance(value, self._array):
            if not value.dtype.hasobject:
                yield name, value
        elif depth < _DEEPEST and type(value) not in _PLAIN:
            for key, item in self._items(value):
                yield from self.below(f"{name}.{key}" if name else key, item, depth + 1)

    def _items(self, value: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict):
            yield from ((_text(key, place), item) for place, (key, item) in enumerate(dict.items(value)))
        elif isinstance(value, list):
            yield from ((str(place), item) for place, item in enumerate(list.__iter__(value)))
        elif isinstance(value, tuple):
            yield from ((str(place), item) for place, item in enumerate(tuple.__iter__(value)))
        elif not isinstance(value, type) and id(value) not in self._objects:
            self._objects.add(id(value))
            yield from self._held(value)

    def _held(self, value: Any) -> Iterator[tuple[str, Any]]:
        try:
            inside = object.__getattribute__(value, "__dict__")
        except AttributeError:
            return
        if not isinstance(inside, dict):
            return
        if isinstance(value, self._module):  # as `state_dict` names them
            for kind in ("_parameters", "_buffers", "_modules"):
                held = inside.get(kind)
                yield from ((str(name), item) for name, item in (held.items() if type(held) is dict else ()))
        elif not isinstance(value, type(sys)):
            yield from ((_text(name, place), item) for place, (name, item) in enumerate(list(inside.items())))


def _text(key: Any, place: int) -> str:
    """Return a key as text: an object that serves as one, such as an optimizer's parameter, by its place."""
    if type(key) is str:
        return key
    return str(key) if type(key) in (int, bool, float) else str(place)
