"""Files of tensors that the runs wrote and read, by what is in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from repro.audit.checkpoints import CheckpointComparison, compare_checkpoints, phrases
from repro.audit.difference import Difference
from repro.audit.outputs import compare_outputs
from repro.audit.wording import output_phrase
from repro.evidence.model import Record

_MOST: Final = 100
"""Checkpoints that are named; the others are counted."""


def checkpoints(left: Record, right: Record) -> Iterator[Difference]:
    """Compare what was written and read, tensor by tensor, where both runs told of any."""
    if not left.checkpoints or not right.checkpoints:
        return
    found = list(phrases(compare_checkpoints(left, right)))
    for each, note in found[:_MOST]:
        yield Difference(
            section="checkpoints",
            name=_name(each),
            left=each.left.digest if each.left else None,
            right=each.right.digest if each.right else None,
            note=note,
        )
    if len(found) > _MOST:
        rest = f"{len(found) - _MOST:,} more checkpoints"
        yield Difference(section="checkpoints", name=rest, left=None, right=None, note="see the manifests")


def of_equal_tensors(left: Record, right: Record) -> Iterator[str]:
    """Yield a sentence for each output whose bytes alone differ, and no tensor: that is no difference that counts."""
    for output in compare_outputs(left, right):
        if output.state == "same-tensors":
            yield f"{output_phrase(output)}: what differs in it is no tensor."


def _name(each: CheckpointComparison) -> str:
    again = f", time {each.again + 1}" if each.again else ""
    return f"{each.path or 'in memory'} ({each.action} by {each.process_key}{again})"
