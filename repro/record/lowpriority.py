"""Work that must not take processor time from the training: in a thread of the lowest priority."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from typing import TypeVar

_Result = TypeVar("_Result")


def run(work: Callable[[], _Result], name: str) -> _Result:
    """Return what `work` returns, or raise what it raises, once it is done in a thread of its own.

    On Linux a thread has a priority of its own, which nobody but root can raise again: so it is never the caller's.
    """
    results: list[_Result] = []
    errors: list[BaseException] = []

    def target() -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again by the caller
            errors.append(error)

    thread = threading.Thread(target=target, name=name, daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
