"""A process tells its rank when it joins its group; where a variable told it at the start, that stands."""

from __future__ import annotations

import pytest

from repro.record import eventlog

JOINED = {"event": "group", "rank": 1, "world_size": 4}


def test_a_rank_that_was_learned_late(write_log) -> None:
    events = eventlog.read(write_log(JOINED, JOINED | {"rank": 0}))
    assert [(1, 4)] == [(start.rank, start.world_size) for start in events.starts]
    assert [] == events.gaps


@pytest.mark.parametrize("wrong", [{"rank": 4}, {"rank": -1}, {"world_size": "4"}, {"rank": None}])
def test_a_group_that_cannot_be(write_log, wrong) -> None:
    events = eventlog.read(write_log(JOINED | wrong))
    assert [(None, None)] == [(start.rank, start.world_size) for start in events.starts]
    assert ["1 lines of its event log could not be read"] == [gap.reason for gap in events.gaps]
