"""Models as a record tells them: which stood at a step, which of their tensors `buffer` tells, and how large they are.

`docs/adr/0011-checkpoints-models-and-operations.md`, "Model", says what is told and when.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from repro.audit.wording import counted
from repro.evidence.model import Model, ModelModule, ModelTensor, Record

_WRAPPER: Final = re.compile(r"(module|_orig_mod)(\.(module|_orig_mod))*")
"""Paths of what wrappers hold: DistributedDataParallel, DataParallel, AveragedModel; torch.compile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A model with its modules and tensors, each in their order."""

    model: Model
    modules: tuple[ModelModule, ...]
    tensors: tuple[ModelTensor, ...]

    @property
    def title(self) -> str:
        """The class of the model; of one that wrappers hold, with theirs: `__main__.Net in DistributedDataParallel`."""
        inside = [row.class_name for row in self.modules[1:] if _WRAPPER.fullmatch(row.path)]
        outside = [self.model.class_name, *inside][: len(inside)]
        return " in ".join([(inside or [self.model.class_name])[-1], *(short_name(one) for one in reversed(outside))])

    @property
    def size(self) -> str:
        """How many numbers it has, by what they are: `1,234 parameters, 56 frozen, 7 in 3 buffers`."""
        numbers = {kind: sum(map(_numbers, rows)) for kind, rows in _by_kind(self.tensors).items()}
        buffers = len(_by_kind(self.tensors).get("buffer", ()))
        found = [counted(numbers.get("parameter", 0), "parameter")]
        found += [f"{numbers[kind]:,} {kind}" for kind in ("frozen", "untrained") if kind in numbers]
        found += [f"{numbers['buffer']:,} in {counted(buffers, 'buffer')}"] if buffers else []
        return ", ".join(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The models of an anchor from a step on."""

    since: int
    besides: tuple[ModelTensor, ...] = ()
    """The tensors that `buffer` has words of, in its order."""
    classes: tuple[str, ...] = ()
    """Classes of all modules in their order: what the models are without the names of their parts."""


def trees(record: Record) -> dict[tuple[str, str], tuple[Tree, ...]]:
    """Return the models of each process and anchor, in the order in which they were told."""
    modules: dict[tuple[str, int], list[ModelModule]] = {}
    tensors: dict[tuple[str, int], list[ModelTensor]] = {}
    for module in record.model_modules:
        modules.setdefault((module.process_key, module.model), []).append(module)
    for tensor in record.model_tensors:
        tensors.setdefault((tensor.process_key, tensor.model), []).append(tensor)
    found: dict[tuple[str, str], list[Tree]] = {}
    for model in sorted(record.models, key=lambda row: (row.process_key, row.ordinal)):
        key = (model.process_key, model.ordinal)
        tree = Tree(
            model=model,
            modules=tuple(sorted(modules.get(key, ()), key=lambda row: row.place)),
            tensors=tuple(sorted(tensors.get(key, ()), key=lambda row: row.place)),
        )
        found.setdefault((model.process_key, model.anchor), []).append(tree)
    return {key: tuple(told) for key, told in found.items()}


def standings(record: Record) -> Mapping[tuple[str, str], tuple[Standing, ...]]:
    """Return what stood of each process and anchor, from which step on; those told of one step stand together."""
    found = {}
    for key, told in trees(record).items():
        by_step: dict[int, list[Tree]] = {}
        for tree in told:
            by_step.setdefault(tree.model.step, []).append(tree)
        found[key] = tuple(_standing(step, together) for step, together in sorted(by_step.items()))
    return found


def _standing(step: int, told: Sequence[Tree]) -> Standing:
    return Standing(
        since=step,
        besides=tuple(row for tree in told for row in tree.tensors if row.kind != "parameter"),
        classes=tuple(row.class_name for tree in told for row in tree.modules),
    )


def model_rows(record: Record) -> list[tuple[str, ...]]:
    """Return process, anchor, step, class, size and digest of each model, for tables."""
    return [
        (key, anchor, f"before step {tree.model.step:,}", tree.title, tree.size, tree.model.digest)
        for (key, anchor), told in trees(record).items()
        for tree in told
    ]


def short_name(class_name: str) -> str:
    """Return a class without the module that it comes from."""
    return class_name.rpartition(".")[2]


def _by_kind(tensors: Sequence[ModelTensor]) -> dict[str, list[ModelTensor]]:
    found: dict[str, list[ModelTensor]] = {}
    for row in tensors:
        found.setdefault(row.kind, []).append(row)
    return found


def _numbers(row: ModelTensor) -> int:
    """Return how many elements a tensor has; a scalar has one."""
    return math.prod(int(extent) for extent in re.findall(r"\d+", row.shape))
