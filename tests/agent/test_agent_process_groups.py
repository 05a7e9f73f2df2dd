"""Ranks: told when a process joins its group, and keys of ranks that a shell starts together."""

import subprocess

import pytest
from event_logs import INJECT, bare_environment, of_kind, read_events

JOIN = """
import os, torch.distributed as dist
meeting = os.path.abspath("meeting")
for _ in range(2):
    dist.init_process_group("gloo", init_method="file://" + meeting, rank=0, world_size=1)
    dist.destroy_process_group()
    if os.path.exists(meeting):
        os.remove(meeting)
try:
    dist.init_process_group("gloo", rank=0)
except ValueError as error:
    print(error)
child = os.fork()
if not child:
    dist.init_process_group("gloo", init_method="file://" + meeting, rank=0, world_size=1)
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.torch
def test_the_rank_of_a_process_that_joins_a_group(run_agent):
    events, done = run_agent(JOIN)
    assert (0, "") == (done.returncode, done.stderr)
    _, bare = run_agent(JOIN, agent=False)
    assert bare.stdout == done.stdout != ""
    joined = {"event": "group", "rank": 0, "world_size": 1}
    found = [{name: event[name] for name in joined} for event in of_kind(events, "group")]
    assert [joined, joined] == found  # each process tells it once, the fork of its own
    assert [] == of_kind(events, "gap")


def keys_of(tmp_path, python, script, **variables):
    """Run a shell script under the agent, and return the process keys."""
    events = tmp_path / "events"
    events.mkdir()
    environment = dict(bare_environment(), REPRO_EVENTS=str(events), PYTHONPATH=str(INJECT), P=python, **variables)
    subprocess.run(["sh", "-c", script], env=environment, cwd=tmp_path, check=True, timeout=60)
    return sorted(event["process_key"] for event in of_kind(read_events(events), "start"))


def test_ranks_that_a_shell_starts_are_called_by_their_rank(tmp_path, python):
    """None of them is `main`, whichever wakes first."""
    script = 'export WORLD_SIZE=3; for rank in 2 0 1; do RANK=$rank "$P" -c "" & done; wait'
    assert ["rank0", "rank1", "rank2"] == keys_of(tmp_path, python, script)


def test_a_process_that_is_all_ranks_there_are_stays_main(tmp_path, python):
    assert ["main"] == keys_of(tmp_path, python, 'exec "$P" -c ""', RANK="0", WORLD_SIZE="1")


def test_what_goes_before_ranks_is_main(tmp_path, python):
    script = '"$P" -c ""; export WORLD_SIZE=2; RANK=1 "$P" -c "" & RANK=0 "$P" -c ""; wait'
    assert ["main", "rank0", "rank1"] == keys_of(tmp_path, python, script)
