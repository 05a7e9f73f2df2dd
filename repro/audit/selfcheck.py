"""What a run's self-check found: whether its first steps, run again at once on its own machine, were the same.

It is sealed with the run, as facts of the topic `self_check`: `steps` (how many were wanted), `outcome` (`passed`,
`failed` or `undecided`), and where it did not pass `reason` (where the two part, or why nothing can be said). Of a
failed one `search` says how the operation was looked for, and `operation` and `site` name it where it was found.
"""

from __future__ import annotations

from typing import Final

from repro.evidence.model import Record

TOPIC: Final = "self_check"
PASSED: Final = "passed"
FAILED: Final = "failed"
UNDECIDED: Final = "undecided"


def outcome_of(record: Record) -> str | None:
    """Return how a run's self-check came out; `None` where there was none."""
    return record.fact(TOPIC, "outcome")


def sentence(record: Record) -> str:
    """Say how a run's self-check came out; empty where there was none."""
    outcome, steps = outcome_of(record), record.fact(TOPIC, "steps") or "?"
    first = "the first step" if steps == "1" else f"the first {steps} steps"
    if outcome == PASSED:
        return f"Self-check: {first}, run again at once on the same machine, came out the same, bit for bit."
    reason = record.fact(TOPIC, "reason") or ""
    if outcome == FAILED:
        told = f"Self-check failed: {first}, run again at once on the same machine, did not come out the same."
        return " ".join(filter(None, (told, reason, _named(record))))
    return f"Self-check undecided: {reason}" if outcome else ""


def _named(record: Record) -> str:
    operation, site = record.fact(TOPIC, "operation"), record.fact(TOPIC, "site")
    if operation is None:
        return record.fact(TOPIC, "search") or ""
    where = f", at {site}" if site else ""
    return f"The operation that gave other bits for the same bits: {operation}{where}."
