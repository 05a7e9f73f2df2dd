"""What was trained: modules and tensors of the models, and what the tensors held before the first step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from repro.audit.difference import Difference, keyed
from repro.audit.models import Tree, trees
from repro.audit.wording import counted, listed
from repro.evidence.model import Record

_NAMED: Final = 8
"""Modules and tensors of a model that are told one by one; the others are counted."""
_VALUES: Final = " values before step "

_Found = tuple[str, str | None, str | None, str]
"""Name, left, right and note of a difference."""


def models(left: Record, right: Record) -> Iterator[Difference]:
    """Compare the models that both runs told, each with the one told in its place.

    The same found in several processes is one difference.
    """
    if not left.models or not right.models:
        return
    ours, theirs = trees(left), trees(right)
    where: dict[_Found, list[str]] = {}
    for process_key, anchor in sorted({*ours, *theirs}):
        told = ours.get((process_key, anchor), ()), theirs.get((process_key, anchor), ())
        for found in _of_anchor(anchor, *told):
            where.setdefault(found, []).append(process_key)
    for (name, before, after, note), places in where.items():
        note = f"{note}; {listed(places, 4)}" if note else listed(places, 4)
        yield Difference(section="model", name=name, left=before, right=after, note=note)


def is_of_values(difference: Difference) -> bool:
    """Say whether a difference is of what a model's tensors held alone: its structure is the same."""
    return difference.section == "model" and _VALUES in difference.name and difference.left == difference.right


def _of_anchor(anchor: str, ours: tuple[Tree, ...], theirs: tuple[Tree, ...]) -> Iterator[_Found]:
    for place in range(max(len(ours), len(theirs))):
        name = f"{anchor} model {place}" if len(ours) > 1 or len(theirs) > 1 else anchor
        if place >= len(ours) or place >= len(theirs):
            before, after = (told[place].title if place < len(told) else None for told in (ours, theirs))
            yield name, before, after, ""
        elif ours[place].model.digest != theirs[place].model.digest:
            yield from _of_trees(name, ours[place], theirs[place])


def _of_trees(name: str, ours: Tree, theirs: Tree) -> Iterator[_Found]:
    classes = ({row.path or "(outermost)": row.class_name for row in tree.modules} for tree in (ours, theirs))
    yield from _limited(name, "module", *classes)
    kinds = ({row.name: f"{row.kind} {row.dtype} {row.shape}" for row in tree.tensors} for tree in (ours, theirs))
    yield from _limited(name, "tensor", *kinds)
    held = {row.name: (row.dtype, row.shape, row.word) for row in ours.tensors}
    other = [
        row.name
        for row in theirs.tensors
        if row.name in held and held[row.name][:2] == (row.dtype, row.shape) and held[row.name][2] != row.word
    ]
    if other:
        number = (
            f"{len(other):,} of {counted(len(theirs.tensors), 'tensor')} held other values: {listed(other, _NAMED)}"
        )
        yield f"{name}{_VALUES}{theirs.model.step:,}", None, None, number


def _limited(name: str, noun: str, ours: dict[str, str], theirs: dict[str, str]) -> Iterator[_Found]:
    """Yield the first modules or tensors that differ, and how many more do."""
    found = list(keyed("model", ours, theirs))
    for one in found[:_NAMED]:
        yield f"{name} {noun} {one.name}", one.left, one.right, ""
    rest = len(found) - _NAMED
    if rest > 0:
        yield f"{name} {noun}s", None, None, f"{counted(rest, f'more {noun}')} differ"
