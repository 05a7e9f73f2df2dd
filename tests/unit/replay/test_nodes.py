"""A replay of several nodes ends all when one cannot go on, and blames nobody for the launcher's choice of ranks."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from repro.errors import ExecutionError, InconclusiveError
from repro.evidence.model import Process, Record, Run
from repro.evidence.store import Store
from repro.replay import nodes


def program(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def answers(run_id: str, status: int = 0) -> list[str]:
    return program(f"import sys; print({json.dumps(json.dumps({'replay_id': run_id}))}); sys.exit({status})")


def test_what_all_nodes_were_recorded_as_is_returned_whatever_their_verdicts(tmp_path: Path) -> None:
    assert ["a", "b"] == nodes._run([answers("a"), answers("b", 1)], Store(tmp_path))


@pytest.mark.parametrize(("status", "error"), [(5, InconclusiveError), (6, ExecutionError), (70, ExecutionError)])
def test_one_that_fails_ends_the_others(tmp_path: Path, status: int, error: type[Exception]) -> None:
    waits = program("import time; time.sleep(600)")
    with pytest.raises(error, match="of 2 nodes could not be replayed"):
        nodes._run([waits, program(f"raise SystemExit({status})")], Store(tmp_path))


def on(*ranks: int) -> Record:
    run = Run(
        run_id="0" * 12,
        replay_of=None,
        argv=("torchrun",),
        root="/",
        working_directory=".",
        started_at="2026-11-21T00:00:00.000000Z",
        ended_at="2026-11-21T00:00:01.000000Z",
        wall_seconds=1.0,
        cpu_seconds=1.0,
        peak_memory_bytes=1,
        status="completed",
        exit_code=0,
        signal=None,
        recorder_version="1",
    )
    processes = [
        Process(
            process_key=f"main/rank{rank}",
            parent_key="main",
            pid=1,
            argv=(),
            executable="",
            python_version="3.11",
            rank=rank,
            world_size=4,
            started_at=run.started_at,
            ended_at=None,
        )
        for rank in ranks
    ]
    return Record(run=run, processes=tuple(processes))


def test_ranks_on_other_nodes_are_no_mismatch_and_lost_ones_are_for_the_verdict() -> None:
    nodes._refuse_other_ranks([on(0, 1), on(2, 3)], [on(0, 1), on(2, 3)])
    nodes._refuse_other_ranks([on(0, 1), on(2, 3)], [on(0, 1), on(2)])
    with pytest.raises(InconclusiveError, match="to other nodes"):
        nodes._refuse_other_ranks([on(0, 1), on(2, 3)], [on(2, 3), on(0, 1)])
