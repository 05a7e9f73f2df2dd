import os
import resource
import subprocess
from typing import Any

import pytest

from repro.replay import inherited


def _seen() -> tuple[str, str]:
    done = subprocess.run(["sh", "-c", "umask; ulimit -n"], capture_output=True, text=True, check=True)
    mask, files = done.stdout.split()
    return mask, files


def test_a_command_inherits_mask_and_limits_as_recorded_and_all_is_put_back(make: Any) -> None:
    before = _seen()
    record = make.record(
        facts=(make.fact("environment", "umask", "0037"), make.fact("environment", "limit.nofile", "512:4096"))
    )
    with inherited.as_recorded(record):
        assert ("0037", "512") == _seen()
    assert before == _seen()


@pytest.mark.parametrize("facts", [{}, {"umask": "rwx", "limit.nofile": "many:more"}, {"limit.nofile": "8:8"}])
def test_what_was_not_recorded_or_would_end_the_recorder_is_left_alone(make: Any, facts: dict[str, str]) -> None:
    before = _seen()
    record = make.record(facts=tuple(make.fact("environment", name, value) for name, value in facts.items()))
    with inherited.as_recorded(record):
        assert before == _seen()


def test_limits_beyond_what_may_be_set_stop_nothing(make: Any) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    record = make.record(facts=(make.fact("environment", "limit.nofile", f"{2**40}:{2**40}"),))
    with inherited.as_recorded(record):
        assert os.getpid()
    assert hard == resource.getrlimit(resource.RLIMIT_NOFILE)[1]


@pytest.mark.parametrize(
    ("recorded", "here", "expected"),
    [
        ("1024:4096", "10:4096", True),
        ("unlimited:unlimited", "10:4096", False),
        ("unlimited:unlimited", "10:unlimited", True),
        ("8192:8192", "10:4096", False),
        ("?", "10:4096", False),
    ],
)
def test_whether_a_limit_may_be_set_here(recorded: str, here: str, expected: bool) -> None:
    assert inherited.within(recorded, here) is expected


@pytest.mark.parametrize(
    ("recorded", "usable", "chosen"),
    [
        ("0", {0, 1}, {0}),
        ("6-7", {0, 1, 6}, {0, 6}),
        ("4-5", {0, 1, 2}, {0, 1}),
        ("0-7", {0, 1}, {0, 1}),
        ("", {0, 1}, {0, 1}),
        ("all", {0, 1}, {0, 1}),
    ],
)
def test_as_many_cpus_as_recorded_the_same_first(recorded: str, usable: set[int], chosen: set[int]) -> None:
    assert chosen == inherited.cpus(recorded, usable)


def test_a_command_may_use_as_many_cpus_as_the_run_and_all_come_back(make: Any) -> None:
    before = os.sched_getaffinity(0)
    record = make.record(facts=(make.fact("hardware", "cpu_affinity", str(max(before))),))
    with inherited.as_recorded(record):
        done = subprocess.run(["nproc"], capture_output=True, text=True, check=True)
        assert ("1\n", {max(before)}) == (done.stdout, os.sched_getaffinity(0))
    assert before == os.sched_getaffinity(0)
