"""What is said of ranks that died, and how far the others are compared."""

from __future__ import annotations

from dataclasses import replace

import pytest

from repro.audit import ranks, tails
from repro.audit.verdict import Word, judge
from repro.evidence.model import Process


def rank(number: int, attempt: int = 0, **changes) -> Process:
    key = f"main/rank{number}" + (f"@{attempt}" if attempt else "")
    row = {
        "process_key": key,
        "parent_key": "main",
        "pid": 100 + number,
        "argv": ("python", "train.py"),
        "executable": "/usr/bin/python3",
        "python_version": "3.11.7",
        "rank": number,
        "world_size": 2,
        "started_at": "2026-11-20T14:03:23.000000Z",
        "ended_at": "2026-11-20T14:03:40.000000Z",
        "attempt": attempt,
        "exit_code": 0,
    }
    return Process(**{**row, **changes})


def killed(number: int, name: str, at: str, attempt: int = 0) -> Process:
    return rank(number, attempt, ended_at=None, exit_code=None, signal=name, exited_at=f"2026-11-20T14:03:{at}Z")


@pytest.fixture
def run(make):
    """Return a function that makes a run of ranks with so many losses each, and its fingerprints."""

    def made(*processes: Process, losses: dict[str, int]):
        record = make.traced(make.original())
        points = [row for row in record.metrics if row.name == "loss"]
        traced = record.fingerprints
        steps = {key: [p for p in points if p.step < count] for key, count in losses.items()}
        return replace(
            record,
            processes=(*record.processes, *processes),
            metrics=tuple(replace(row, process_key=key) for key, rows in sorted(steps.items()) for row in rows),
            fingerprints=tuple(
                replace(row, process_key=key)
                for key, count in sorted(losses.items())
                for row in traced
                if row.step < count
            ),
            traced_tensors=tuple(
                replace(row, process_key=key) for key in sorted(losses) for row in record.traced_tensors
            ),
        )

    return made


def test_an_end_is_told_with_its_signal_its_step_and_what_followed(run) -> None:
    first = (killed(0, "SIGTERM", "31.500000"), killed(1, "SIGKILL", "31.400000"))
    record = run(*first, rank(0, 1), rank(1, 1), losses={"main/rank0": 19, "main/rank1": 18, "main/rank0@1": 40})
    said = "attempt 1: rank 1 ended with SIGKILL at step 17, rank 0 ended with SIGTERM at step 18; "
    assert (said + "the group was started again",) == ranks.sentences(record)


def test_an_exit_and_a_silent_end_are_told_as_what_they_are(run) -> None:
    left = rank(0, ended_at=None, exit_code=3, exited_at="2026-11-20T14:03:31.000000Z")
    silent = rank(1, ended_at=None, exit_code=None)
    said = ranks.sentences(run(left, silent, losses={"main/rank0": 1}))
    ends = "rank 1 ended without a word before its first step, rank 0 ended with exit 3 at step 0"
    assert (f"{ends}; it was not started again",) == said


def test_ranks_in_good_order_and_their_children_are_not_told(run) -> None:
    child = replace(rank(0), process_key="main/rank0/fork.1", parent_key="main/rank0", ended_at=None, exit_code=None)
    assert () == ranks.sentences(run(rank(0), rank(1), child, losses={"main/rank0": 3}))


@pytest.mark.parametrize("side", ["original", "replay"])
def test_where_a_launcher_ended_a_rank_decides_nothing(run, make, side: str) -> None:
    earlier = run(killed(0, "SIGTERM", "31.000000"), losses={"main/rank0": 5})
    later = run(killed(0, "SIGTERM", "31.000000"), losses={"main/rank0": 8})
    original, other = (earlier, later) if side == "original" else (later, earlier)
    repeated = make.replay(original)
    changed = {name: getattr(other, name) for name in ("metrics", "fingerprints", "traced_tensors")}
    verdict = judge(original, replace(repeated, **changed))
    assert verdict.word is Word.MATCHED_EXACTLY, verdict.sentence
    assert any("is compared as far as both went" in sentence for sentence in verdict.caveats)


def test_what_both_told_of_such_a_rank_still_counts(run, make) -> None:
    original = run(killed(0, "SIGTERM", "31.000000"), losses={"main/rank0": 5})
    other = run(killed(0, "SIGTERM", "31.000000"), losses={"main/rank0": 8})
    metrics = tuple(replace(row, value=row.value + 1) if row.step == 3 else row for row in other.metrics)
    assert judge(original, replace(make.replay(original), metrics=metrics)).word is Word.DID_NOT_MATCH


def test_a_rank_that_left_by_itself_is_compared_whole(run, make) -> None:
    original = run(rank(0, exit_code=1), losses={"main/rank0": 5})
    longer = run(rank(0, exit_code=1), losses={"main/rank0": 8})
    verdict = judge(original, replace(make.replay(original), metrics=longer.metrics))
    assert verdict.word is Word.DID_NOT_MATCH
    assert {} == tails.ended_from_outside(original)
