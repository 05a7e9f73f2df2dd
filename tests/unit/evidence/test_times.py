from __future__ import annotations

import pytest

from repro.evidence.times import utc, utc_ns, utc_ns_each

EPOCH = "1970-01-01T00:00:00.000000Z"


def test_times_are_utc_with_microseconds() -> None:
    assert utc(1.5) == "1970-01-01T00:00:01.500000Z"
    assert utc_ns(1_763_719_234_123_456_789) == "2025-11-21T10:00:34.123456Z"


def test_a_time_of_a_file_is_cut_and_not_rounded() -> None:
    assert utc_ns(1_763_719_234_999_999_999) == "2025-11-21T10:00:34.999999Z"
    assert utc_ns(-1) == "1969-12-31T23:59:59.999999Z"


def test_many_times_are_written_as_each_is() -> None:
    times = [0, 1, 999, -1, 1_763_719_234_123_456_789, 1_763_719_234_999_999_999, 2**80, -(2**80)]
    assert utc_ns_each(iter(times)) == list(map(utc_ns, times))


@pytest.mark.parametrize("seconds", [1e300, float("nan"), float("inf")])
def test_what_no_calendar_has_is_the_epoch(seconds: float) -> None:
    assert (utc(seconds), utc_ns(2**80)) == (EPOCH, EPOCH)
