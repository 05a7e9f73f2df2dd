"""The operations of one step in two runs, side by side: the first that gave other bits for the same bits.

Both are told in the order of their calls. An operation that was given the same values, and gave back others, is not
deterministic where it ran, or ran on other hardware or by another library. One that was given other values says
nothing about itself. Once the names part, the two took different ways, and no more can be said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from repro.evidence.model import Operation, Record

BACKWARD: Final = " backward"
"""Stands behind the site of an operation that autograd called, and the site is that of the forward one."""

_WORD: Final = 16
_NOTHING: Final = "-" * _WORD

Outcome = Literal["equal", "differs", "inputs differ", "order differs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationComparison:
    """The operations that two runs told of one step of one process."""

    process_key: str
    anchor: str
    step: int
    compared: int
    """Operations with equal names at equal places, up to where the order parts."""
    outcome: Outcome
    """`differs` names the operation; `inputs differ` where values differ, but each operation gave the same for the
    same."""
    first: Operation | None
    """The operation at which the outcome shows, as the left run told it; `None` where all are equal."""


def compare_operations(left: Record, right: Record) -> tuple[OperationComparison, ...]:
    """Compare the operations of every step that both runs told so."""
    ours, theirs = _by_step(left), _by_step(right)
    return tuple(_compare(ours[key], theirs[key]) for key in sorted(ours.keys() & theirs.keys()))


def found(compared: Sequence[OperationComparison]) -> Operation | None:
    """Return the operation that gave other bits for the same bits, the earliest; `None` where there is none."""
    return next((one.first for one in compared if one.outcome == "differs"), None)


def _by_step(record: Record) -> dict[tuple[str, str, int], list[Operation]]:
    told: dict[tuple[str, str, int], list[Operation]] = {}
    for row in sorted(record.operations, key=lambda row: row.place):
        told.setdefault((row.process_key, row.anchor, row.step), []).append(row)
    return told


def _compare(left: Sequence[Operation], right: Sequence[Operation]) -> OperationComparison:
    outcome: Outcome = "equal"
    first: Operation | None = None
    place = 0
    for place, (ours, theirs) in enumerate(zip(left, right, strict=False), 1):
        if ours.name != theirs.name:
            return _concluded(left, place - 1, *((outcome, first) if first else ("order differs", ours)))
        if ours.inputs != theirs.inputs:
            outcome, first = ("inputs differ", ours) if first is None else (outcome, first)
        elif _gives_others(ours, theirs):
            return _concluded(left, place, "differs", ours)
    if first is None and len(left) != len(right):
        longer = left if len(left) > len(right) else right
        return _concluded(left, place, "order differs", longer[place])
    return _concluded(left, place, outcome, first)


def _concluded(
    left: Sequence[Operation], compared: int, outcome: Outcome, first: Operation | None
) -> OperationComparison:
    head = left[0]
    return OperationComparison(
        process_key=head.process_key,
        anchor=head.anchor,
        step=head.step,
        compared=compared,
        outcome=outcome,
        first=first,
    )


def _gives_others(ours: Operation, theirs: Operation) -> bool:
    """Say whether an operation, given the same, gave something else. What could not be read says nothing."""
    if _NOTHING in ours.inputs or _NOTHING in theirs.inputs:
        return False
    return any(
        before != after and _NOTHING not in (before, after)
        for before, after in zip(_words(ours), _words(theirs), strict=False)
    )


def _words(row: Operation) -> list[str]:
    return [row.words[start : start + _WORD] for start in range(0, len(row.words), _WORD)]


def operations_sentence(compared: OperationComparison) -> str:
    """Say how the operations of a step compare."""
    head = f"operations of step {compared.step} of {compared.anchor} ({compared.process_key}): "
    if compared.first is None:
        return f"{head}all {compared.compared} gave the same"
    named = operation_words(compared.first)
    told = {
        "differs": f"{named} was given the same, and gave something else",
        "inputs differ": f"{named} was given other values, and none gave something else for the same",
        "order differs": f"the runs took different ways from {named} on",
    }
    return f"{head}{told[compared.outcome]}; {compared.compared} compared"


def operation_words(operation: Operation) -> str:
    """Name an operation and its line: `aten::index_put at train.py:17`, `aten::mm in the backward pass of …`."""
    site = operation.site.removesuffix(BACKWARD)
    if not site:
        return f"{operation.name} (called by autograd)"
    return f"{operation.name} {'in the backward pass of' if site != operation.site else 'at'} {site}"
