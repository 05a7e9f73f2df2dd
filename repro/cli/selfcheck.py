"""`repro record --self-check N`: the recorder asks, the replayer runs the first steps again, the auditor judges."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from repro.errors import ReproError, UsageError

if TYPE_CHECKING:
    from repro.evidence.model import Fact, Operation, Record
    from repro.evidence.store import Store
    from repro.record.capture import Findings
    from repro.replay.rehearsal import Rehearsal

Progress = Callable[[str], None]

_MOST_RUNS: Final = 6
"""How often a step is run operation by operation before the operation is said not to be found."""
_ANCHORS: Final = ("optimizer.0", "backward")
"""The anchors whose steps the agent tells operation by operation."""


def checker(steps: int | None, store: Store, progress: Progress) -> Callable[[Record], Findings] | None:
    """Return what looks at a record before it is sealed; `None` where no self-check is wanted.

    Args:
        steps: How many of the first steps to run again.
        store: Where the record's objects lie.
        progress: Called with what is going on.

    Raises:
        UsageError: It is no number of steps.
    """
    if steps is None:
        return None
    if steps < 1:
        raise UsageError(f"--self-check {steps} is no number of steps", hint="for example: --self-check 8")
    return partial(_check, steps, store, progress)


def _check(steps: int, store: Store, progress: Progress, record: Record) -> Findings:
    """Run the first steps of a record's command again, and return what is to be sealed of that."""
    from repro.audit import selfcheck, selfcheckfacts
    from repro.record.capture import Findings

    if record.run.status in ("interrupted", "killed"):
        reason = f"the command was {record.run.status}"
        return Findings(facts=selfcheckfacts.facts(steps, selfcheck.UNDECIDED, reason=reason))
    progress(f"self-check: running the first {steps} steps again (Ctrl-C ends that, and seals the run)")
    try:
        found = _rehearse(steps, store, progress, record)
    except ReproError as error:
        found = selfcheckfacts.facts(steps, selfcheck.UNDECIDED, reason=f"they could not be run again: {error.message}")
    finally:
        progress("")
    return Findings(facts=found)


def _rehearse(steps: int, store: Store, progress: Progress, record: Record) -> tuple[Fact, ...]:
    from repro.audit import selfcheck, selfcheckfacts
    from repro.audit.verdict import judge
    from repro.record.excerpt import excerpt
    from repro.replay.rehearsal import rehearsing

    exact = tuple(row for row in record.tolerances if row.absolute == math.inf)  # bits are asked about, not limits
    with rehearsing(record, store, progress=lambda message: None) as rehearsal:
        verdict = judge(replace(record, tolerances=exact), rehearsal.again(excerpt(steps, None)))
        facts = selfcheckfacts.facts_of(steps, verdict)
        first = verdict.trace.first
        if selfcheck.FAILED in {fact.value for fact in facts if fact.name == "outcome"} and first is not None:
            progress("self-check: not the same; looking for the operation")
            # a later optimizer's step lies between two steps of the first one, which are those that are told
            facts += _Search(rehearsal, first.step + (first.anchor not in _ANCHORS)).run()
    return facts


@dataclass(slots=True)
class _Search:
    """Looks for the operation that gives other bits for the same bits: a step is run several times, and compared."""

    rehearsal: Rehearsal
    step: int

    def run(self) -> tuple[Fact, ...]:
        """Return what is to be sealed of the search."""
        from repro.audit.selfcheckfacts import search_facts

        before: list[Record] = []
        found: Operation | None = None
        runs = 0
        while found is None and runs < _MOST_RUNS:
            latest = self._once()
            runs += 1
            if latest.run.status == "interrupted":
                break
            earlier = self._parted_before(before, latest)
            if earlier is not None:  # the step looked at inherits what an earlier one did
                self.step, before = earlier, []
                continue
            found = self._found(before, latest)
            before.append(latest)
        return search_facts(found, self.step, runs)

    def _once(self) -> Record:
        from repro.audit.rebase import rebase
        from repro.record.excerpt import excerpt
        from repro.replay.rehearsal import EVERY_STEP

        return rebase(self.rehearsal.again(excerpt(self.step + 1, self.step), EVERY_STEP))

    def _parted_before(self, before: list[Record], latest: Record) -> int | None:
        """Return an earlier step at which the latest run parts from one before it."""
        from repro.audit.trace.fingerprints import compare_fingerprints

        parted = (compare_fingerprints(each, latest).first for each in before)
        told = (first for first in parted if first is not None and first.anchor in _ANCHORS)
        return min((first.step for first in told if first.step < self.step), default=None)

    def _found(self, before: list[Record], latest: Record) -> Operation | None:
        from repro.audit.trace.operations import compare_operations, found

        named = (found(compare_operations(each, latest)) for each in before)
        return next((operation for operation in named if operation is not None), None)
