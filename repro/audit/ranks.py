"""What became of the ranks of a run: which ended before their time, how, at which step, and what the launcher did then.

A rank that is killed cannot say so. Its parent can, when it is one of ours: the agent in the launcher tells what the
standard library was told by the kernel. Ranks are told apart by attempt: an elastic launcher starts them again.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

from repro.evidence.model import Process, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A group of ranks that a launcher started together."""

    parent_key: str | None
    attempt: int
    """From 0."""
    ended_early: tuple[Process, ...]
    """Ranks that did not end in good order, sorted by when their parent was told."""
    again: bool
    """Whether the same launcher started the group again."""


def attempts(record: Record) -> tuple[Attempt, ...]:
    """Return every group of ranks of which one did not end in good order, sorted by launcher and attempt."""
    groups: dict[tuple[str, int], list[Process]] = {}
    by_key = {process.process_key: process for process in record.processes}
    for process in record.processes:
        parent = by_key.get(process.parent_key or "")
        if process.rank is not None and (parent is None or parent.rank != process.rank):
            groups.setdefault((process.parent_key or "", process.attempt), []).append(process)
    return tuple(
        Attempt(
            parent_key=launcher or None,
            attempt=attempt,
            ended_early=tuple(sorted(early, key=lambda p: (p.exited_at or "", p.rank or 0))),
            again=any(other == launcher and later > attempt for other, later in groups),
        )
        for (launcher, attempt), group in sorted(groups.items())
        if (early := [process for process in group if _ended_early(process)])
    )


def sentences(record: Record) -> tuple[str, ...]:
    """Say of each such group what became of its ranks."""
    steps = _last_steps(record)
    launchers = {process.parent_key for process in record.processes if process.rank is not None}
    return tuple(_sentence(each, steps, several=len(launchers - {None}) > 1) for each in attempts(record))


def _sentence(attempt: Attempt, steps: dict[str, int], *, several: bool) -> str:
    phrases = []
    for process in attempt.ended_early:
        step = steps.get(process.process_key)
        at = "before its first step" if step is None else f"at step {step}"
        phrases.append(f"rank {process.rank} ended {_how(process)} {at}")
    then = "the group was started again" if attempt.again else "it was not started again"
    under = f"under {attempt.parent_key}: " if several else ""
    numbered = f"attempt {attempt.attempt + 1}: " if attempt.again or attempt.attempt else ""
    return f"{under}{numbered}{', '.join(phrases)}; {then}"


def _ended_early(process: Process) -> bool:
    if process.signal is not None or process.exit_code:
        return True
    return process.ended_at is None and process.exit_code is None


def _how(process: Process) -> str:
    if process.signal is not None:
        return f"with {process.signal}"
    return "without a word" if process.exit_code is None else f"with exit {process.exit_code}"


def _last_steps(record: Record) -> dict[str, int]:
    """Return the number of the last step that each process told of: backward passes, or traced steps."""
    found: dict[str, int] = {}
    passes = ((row.process_key, row.step) for row in record.metrics if row.name == "loss")
    traced = ((row.process_key, row.step) for row in record.fingerprints)
    for key, step in chain(passes, traced):
        found[key] = max(step, found.get(key, 0))
    return found
