"""The models that anchors train: trees of modules, what their tensors held, and the field `buffer` (docs/adr/0011).

Modules are held weakly: a model that the user lets go is gone. Nothing of the user's is called, and no property is
read: what a module holds is looked up in its own dictionary.
"""

from __future__ import annotations

import weakref

from .chain import transfers_of
from .fingerprint import digits
from .parameters import shape_of, shape_unknown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from repro.agent import Agent

    from .fingerprint import Fingerprints, Word

MOST_TREES, MOST_MODULES, MOST_TENSORS = 256, 32768, 65536
"""How many trees of an anchor, and how much of a tree, are told."""
MOST_TELLINGS = 1024
"""How many models a process tells: an anchor's anew when its parameters change, or which of them take a gradient."""


class Slot:
    """A place in a module that holds a tensor.

    Args:
        module: The module.
        holder: `_parameters` or `_buffers`.
        key: Its name there.
        name: As the outermost module calls it.
        kind: `parameter`, `frozen`, `untrained` or `buffer`.
    """

    __slots__ = ("_holder", "_key", "_module", "kind", "name")

    def __init__(self, module: Any, holder: str, key: str, name: str, kind: str) -> None:
        self._module = weakref.ref(module)
        self._holder, self._key = holder, key
        self.name, self.kind = name, kind

    def tensor(self) -> Any:
        """Return the tensor that lies there now; `None` where there is none any more."""
        module = self._module()
        try:
            return None if module is None else held_by(module, self._holder)[self._key]
        except KeyError:
            return None


class _Told:
    """What was told last of an anchor's models."""

    __slots__ = ("besides", "gradients", "trees")

    def __init__(self, trees: list[Any]) -> None:
        self.trees = [weakref.ref(tree) for tree in trees]
        self.besides: list[Slot] = []
        """Where the tensors lie that the anchor does not train."""
        self.gradients: Any = None
        """Which parameters take a gradient: what is told anew when it changes."""


class Models:
    """The models of one process.

    Args:
        agent: Where to tell them.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.restart()

    def restart(self) -> None:
        """Begin anew: in a forked child."""
        self._told: dict[str, _Told] = {}
        self._tellings = 0
        self._waiting: list[tuple[dict[str, Any], list[Word], list[Any]]] = []

    def attach(self, torch: Any, fingerprints: Fingerprints) -> None:
        """Take the library, and what reads tensors."""
        self._torch = torch
        self._fingerprints = fingerprints

    def meet(self, anchor: str, trees: list[Any]) -> None:
        """Take the outermost modules that hold an anchor's parameters; what they hold is told at the next `words`."""
        if len(trees) > MOST_TREES:
            self._gap(anchor, f"of {len(trees)} trees of modules the first {MOST_TREES} alone are told")
        self._told[anchor] = _Told(trees[:MOST_TREES])

    def words(self, anchor: str, step: int, trained: list[Any], known: dict[int, Word]) -> list[Word]:
        """Tell an anchor's models if they are new, and return the field `buffer`: a word for each tensor besides.

        Args:
            anchor: Its name.
            step: The step that is to come.
            trained: The anchor's parameters.
            known: Words of tensors that were just read, by `id`.
        """
        told = self._told.get(anchor)
        if told is None:
            return []
        gradients = [each.requires_grad for each in trained], [_takes_gradient(slot.tensor()) for slot in told.besides]
        if gradients != told.gradients:
            self._tell(anchor, step, told, trained, known)
        return [self._word(slot.tensor(), known) for slot in told.besides]

    def flush(self) -> None:
        """Tell the models whose words were still on a device."""
        waiting, self._waiting = self._waiting, []
        for fields, words, transfers in waiting:
            for transfer in transfers:
                transfer.fetch_into(words)
            self._emit(fields, words)

    def _tell(self, anchor: str, step: int, told: _Told, trained: list[Any], known: dict[int, Word]) -> None:
        trees = [tree for tree in (reference() for reference in told.trees) if tree is not None]
        self._tellings += len(trees)
        if self._tellings > MOST_TELLINGS:
            self._gap(anchor, f"more than {MOST_TELLINGS} models were told: what changed in it since is not")
        else:
            ids = {id(each) for each in trained}
            slots = [self._tell_tree(anchor, step, tree, ids, known) for tree in trees]
            told.besides = [slot for tree in slots for slot in tree if slot.kind != "parameter"]
        besides = [_takes_gradient(slot.tensor()) for slot in told.besides]
        told.gradients = [each.requires_grad for each in trained], besides

    def _tell_tree(self, anchor: str, step: int, tree: Any, trained: set[int], known: dict[int, Word]) -> list[Slot]:
        modules = list(modules_below(tree))
        slots = _slots_of(modules, trained)
        if len(modules) > MOST_MODULES or len(slots) > MOST_TENSORS:
            self._gap(
                anchor, f"a model of {len(modules)} modules and {len(slots)} tensors is not told: it is too large"
            )
            return []
        tensors = [slot.tensor() for slot in slots]
        fields: dict[str, Any] = {
            "anchor": anchor,
            "step": step,
            "modules": [[path, class_name(module)] for path, module in modules],
            "names": [slot.name for slot in slots],
            "kinds": [slot.kind for slot in slots],
            "shapes": [list(shape_of(each)) for each in tensors],
            "dtypes": [str(each.dtype).rpartition(".")[2] for each in tensors],
            "devices": [str(each.device) for each in tensors],
        }
        words = [self._word(each, known) for each in tensors]
        transfers = transfers_of(self._torch, words)
        if transfers:  # nobody waits for a device
            self._waiting.append((fields, words, transfers))
        else:
            self._emit(fields, words)
        return slots

    def _word(self, tensor: Any, known: dict[int, Word]) -> Word:
        """Return a tensor's fingerprint; `None` where there is no tensor, or one whose shape is not known yet."""
        word = known.get(id(tensor))
        if word is not None or tensor is None or shape_unknown(tensor):
            return word
        return self._fingerprints.of_tensor(tensor)

    def _emit(self, fields: dict[str, Any], words: list[Word]) -> None:
        self._agent.emit("model", **fields, words="".join([digits(word) for word in words]))

    def _gap(self, anchor: str, reason: str) -> None:
        self._agent.gap("trace", f"model of {anchor}", reason)


def held_by(module: Any, holder: str) -> Any:
    """Return a module's own `_parameters`, `_buffers` or `_modules`; an empty one where it has none."""
    return object.__getattribute__(module, "__dict__").get(holder) or {}


def modules_below(tree: Any) -> Iterator[tuple[str, Any]]:
    """Yield the path of each module in a tree and the module, as `named_modules` does: each once, holders first."""
    waiting, seen = [("", tree)], set()
    while waiting:
        path, module = waiting.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        yield path, module
        children = [(str(key), child) for key, child in held_by(module, "_modules").items() if child is not None]
        waiting += [(f"{path}.{key}" if path else key, child) for key, child in reversed(children)]


def class_name(module: Any) -> str:
    """Return a module's class with the module that it comes from; of a scripted one also what it was made of."""
    kind = type(module)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if kind.__module__ != "torch.jit._script":
        return name
    return f"{name}({module.original_name})"


def _slots_of(modules: list[tuple[str, Any]], trained: set[int]) -> list[Slot]:
    """Return where the tensors of modules lie, each tensor once: of each module its parameters, then its buffers."""
    slots: list[Slot] = []
    seen: set[int] = set()
    for path, module in modules:
        for holder in ("_parameters", "_buffers"):
            for key, tensor in held_by(module, holder).items():
                if tensor is None or id(tensor) in seen:
                    continue
                seen.add(id(tensor))
                name = f"{path}.{key}" if path else str(key)
                slots.append(Slot(module, holder, key, name, _kind(holder, tensor, trained)))
    return slots


def _kind(holder: str, tensor: Any, trained: set[int]) -> str:
    if holder == "_buffers":
        return "buffer"
    if not tensor.requires_grad:
        return "frozen"
    return "parameter" if id(tensor) in trained else "untrained"


def _takes_gradient(tensor: Any) -> bool:
    return tensor is not None and bool(tensor.requires_grad)
