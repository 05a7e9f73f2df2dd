from __future__ import annotations

import os
import threading

import pytest

from repro.record import lowpriority


def test_the_work_has_the_lowest_priority_and_the_caller_keeps_its_own() -> None:
    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert 19 == lowpriority.run(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id()), "t")
    assert before == os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_what_it_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        lowpriority.run(lambda: 1 // 0, "t")
