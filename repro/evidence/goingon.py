"""Where a run stands in the whole training, if it goes on from another one.

An anchor goes on from a checkpoint if its parameters before its step 0 are those that were read: at least half of them,
by their fingerprints. A checkpoint that was read for anything else, such as a teacher's, is a link and no more.
"""

from __future__ import annotations

from typing import Final

from repro.evidence import canonical
from repro.evidence.model import Continuation, Fingerprint, Record

_WORD: Final = 16
_UNREAD: Final = "-" * _WORD


def goes_on_at(record: Record) -> dict[tuple[str, str], int]:
    """Return, by process and anchor, how many steps of the whole training came before the run; of those that go on."""
    return {key: _steps(link)[key[1]] for key, link in sources(record).items()}


def sources(record: Record) -> dict[tuple[str, str], Continuation]:
    """Return, by process and anchor, the link to the checkpoint that the anchor goes on from."""
    if not record.continuations:
        return {}
    held: dict[tuple[str, int], set[str]] = {}
    for tensor in record.checkpoint_tensors:
        held.setdefault((tensor.process_key, tensor.checkpoint), set()).add(tensor.word)
    found = {}
    for row in record.fingerprints:
        if row.field == "weight" and row.step == 0:
            link = _source(record, row, held)
            if link is not None:
                found[row.process_key, row.anchor] = link
    return found


def _source(record: Record, weights: Fingerprint, held: dict[tuple[str, int], set[str]]) -> Continuation | None:
    """Return the link of the checkpoint that most of an anchor's first weights are of; of equals, the most steps.

    Of processes that read the same, its own comes first; one that was given its weights by another takes that one's.
    """
    words = [weights.words[place : place + _WORD] for place in range(0, len(weights.words), _WORD)]
    best: tuple[tuple[int, int, bool], Continuation] | None = None
    for link in record.continuations:
        known = held.get((link.process_key, link.checkpoint), set()) - {_UNREAD}
        number, steps = sum(word in known for word in words), _steps(link).get(weights.anchor, 0)
        rank = number, steps, link.process_key == weights.process_key
        if steps and 2 * number >= len(words) > 0 and (best is None or rank > best[0]):
            best = rank, link
    return best[1] if best else None


def _steps(link: Continuation) -> dict[str, int]:
    return {anchor: int(count) for anchor, count in canonical.loads(link.steps.encode()).items()}
