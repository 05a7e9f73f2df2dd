"""Make of a repetition of a run's first steps what is sealed with it: see `repro.audit.selfcheck` for the facts."""

from __future__ import annotations

from repro.audit.selfcheck import FAILED, PASSED, TOPIC, UNDECIDED
from repro.audit.trace.operations import BACKWARD
from repro.audit.verdict import Reason, Verdict, Word
from repro.evidence.model import Fact, Operation


def facts_of(steps: int, verdict: Verdict) -> tuple[Fact, ...]:
    """Return what is sealed of a self-check, from the verdict on it."""
    told = verdict.sentence.removesuffix(verdict.evidence).strip()
    if (
        verdict.word in (Word.MATCHED_EXACTLY, Word.MATCHED_WITHIN_TOLERANCE)
        or verdict.reason is Reason.FIRST_STEPS_EQUAL
    ):
        return facts(steps, PASSED)
    differs = verdict.trace.first is not None or any(metric.first is not None for metric in verdict.metrics)
    if verdict.word is Word.DID_NOT_MATCH and differs:
        return facts(steps, FAILED, reason=told)
    return facts(steps, UNDECIDED, reason=told)


def facts(steps: int, outcome: str, **more: str) -> tuple[Fact, ...]:
    """Return what is sealed of a self-check."""
    known = {"steps": str(steps), "outcome": outcome, **more}
    return tuple(Fact(topic=TOPIC, name=name, value=value, source="observed") for name, value in known.items())


def search_facts(operation: Operation | None, step: int, runs: int) -> tuple[Fact, ...]:
    """Return what is sealed of the search for the operation.

    Args:
        operation: The one that gave other bits for the same bits; `None` where none was found.
        step: The step that was run operation by operation.
        runs: How often.
    """
    looked = f"step {step} was run {runs} times, operation by operation"
    if operation is None:
        return _of_search(search=f"{looked}: no operation gave other bits for the same bits.")
    site = operation.site.removesuffix(BACKWARD)
    about = f"{operation.name} (in the backward pass of that line)" if site != operation.site else operation.name
    return _of_search(search=f"{looked}.", operation=about, site=site)


def _of_search(**known: str) -> tuple[Fact, ...]:
    return tuple(Fact(topic=TOPIC, name=name, value=value, source="observed") for name, value in known.items() if value)
