"""Captures that may fail without harm, and those that run in a thread of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial

from repro.errors import ReproError
from repro.evidence.canonical import storable
from repro.evidence.model import Gap
from repro.record.capture import Context, Findings


class Alongside:
    """Captures in a thread of their own: where one waits for the kernel or a library, the others of the run go on."""

    def __init__(self, looks: Sequence[tuple[str, Callable[[Context], Findings]]]) -> None:
        self._looks = looks
        self._found: list[Findings] = []
        self._thread: threading.Thread | None = None

    def start(self, context: Context) -> None:
        """Begin, with what was found so far."""
        self._thread = threading.Thread(target=self._run, args=(context,), name="alongside", daemon=True)
        self._thread.start()

    def join(self) -> Findings:
        """Return what was found, once all is."""
        if self._thread is not None:
            self._thread.join()
        return sum(self._found, Findings())

    def _run(self, context: Context) -> None:
        for name, action in self._looks:
            self._found.append(look(action, context, name, "alongside"))


def look(action: Callable[[Context], Findings], context: Context, name: str, moment: str) -> Findings:
    """Return what a capture found at a moment; when it fails, that is a gap."""
    return guarded(partial(action, context), "recorder", f"capture {name}, {moment}")


def guarded(look: Callable[[], Findings], topic: str, subject: str) -> Findings:
    """Return what a step found; when it fails, that is a gap: the training is worth more than any one fact."""
    try:
        return look()
    except Exception as error:  # noqa: BLE001 - said as a gap, and the run is sealed
        reason = error.message if isinstance(error, ReproError) else f"{type(error).__name__}: {error}"
        return Findings(gaps=(Gap(topic=topic, subject=subject, reason=storable(f"it failed: {reason}")[:500]),))
