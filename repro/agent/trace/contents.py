"""Fingerprints of what is no plain tensor: batches, hyperparameters, an optimizer's state.

Objects of unknown classes give the class's name. Nothing of the user's is called: no `__repr__`, no `__iter__` of
his own classes, no property.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from .fingerprint import Fingerprints, Word

_DEEPEST = 32


def canonical_text(value: Any) -> str:
    """Return a scalar as text that tells any two apart, floats by their bits; of anything else the type."""
    kind = type(value)
    if kind is float:
        return f"float {value.hex()}"
    if value is None or kind in (bool, int, str, bytes, complex):
        return f"{kind.__name__} {value!r}"
    if kind in (tuple, list):
        return f"({', '.join([canonical_text(item) for item in value])})"
    return f"type {kind.__module__}.{kind.__qualname__}"


def leaves(value: Any, depth: int = 0) -> Iterator[Any]:
    """Yield what a nested structure holds, in its own order, with the keys of dictionaries.

    Tuples, lists, dictionaries (also of the user's subclasses), sets in the order of their texts, and the fields of
    dataclasses are opened; all else is a leaf.
    """
    if depth > _DEEPEST:
        yield value
    elif isinstance(value, dict):
        for key, item in dict.items(value):
            yield key
            yield from leaves(item, depth + 1)
    elif isinstance(value, (tuple, list)):
        for item in tuple.__iter__(value) if isinstance(value, tuple) else list.__iter__(value):
            yield from leaves(item, depth + 1)
    elif isinstance(value, (set, frozenset)):
        yield from sorted(map(canonical_text, value))
    elif hasattr(type(value), "__dataclass_fields__"):
        for name in type(value).__dataclass_fields__:
            yield from leaves(vars(value).get(name) if hasattr(value, "__dict__") else None, depth + 1)
    else:
        yield value


class Contents:
    """Fingerprints of leaves.

    Args:
        torch: The module.
        fingerprints: What reads tensors.
    """

    def __init__(self, torch: Any, fingerprints: Fingerprints) -> None:
        self._torch = torch
        self._fingerprints = fingerprints

    def words(self, value: Any) -> list[Word]:
        """Return a fingerprint for each tensor and array, and one for each run of other leaves between them."""
        words: list[Word] = []
        texts: list[str] = []
        for leaf in leaves(value):
            parts = self._parts(leaf)
            if parts is None:
                texts.append(canonical_text(leaf))
                continue
            if texts:
                words.append(self._fingerprints.of_text("\n".join(texts)))
                texts = []
            words.append(self._fingerprints.combined([self._fingerprints.of_text(parts[0]), parts[1]]))
        if texts:
            words.append(self._fingerprints.of_text("\n".join(texts)))
        return words

    def word(self, value: Any) -> Word:
        """Return one fingerprint for all of a structure; `None` for an empty one."""
        words = self.words(value)
        return self.combine(words) if words else None

    def combine(self, words: list[Word]) -> Word:
        """Return one fingerprint for several, in their order."""
        return words[0] if len(words) == 1 else self._fingerprints.combined(words)

    def _parts(self, leaf: Any) -> Any:
        """Return the dtype and shape, as text, and the fingerprint of a tensor or array; `None` for any other leaf."""
        if isinstance(leaf, self._torch.Tensor):
            word = self._fingerprints.of_tensor(leaf)
            shape = "unread" if word is None else tuple(leaf.shape)
            return f"{str(leaf.dtype).rpartition('.')[2]} {shape}", word
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(leaf, (numpy.ndarray, numpy.generic)):
            return self._array_parts(numpy, leaf)
        return None

    def _array_parts(self, numpy: Any, leaf: Any) -> Any:
        text = f"{leaf.dtype.str} {leaf.shape}"
        if leaf.dtype.hasobject:
            flat = numpy.asarray(leaf).ravel().tolist()
            return text, self._fingerprints.of_text("\n".join([canonical_text(item) for item in flat]))
        return text, self._fingerprints.of_bytes(numpy.ascontiguousarray(leaf).tobytes())
