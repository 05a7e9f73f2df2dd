"""Hash declared data while the command runs, so that little is left to wait for once it has ended.

What is found goes into the cache, under the state that the file had: it counts afterwards for a file that still has
that state, and for no other. So nothing here decides what a record says.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import Final

from repro.evidence import manyfiles
from repro.record.capture import Context

_SHORT_SECONDS: Final = 2.0
"""A command that runs no longer is not disturbed."""
_LOOK_SECONDS: Final = 0.05
_SAY_AFTER_SECONDS: Final = 1.0
_SAVE_SECONDS: Final = 60.0


class HashedAhead:
    """A thread of the lowest priority, which reads one file at a time: the training reads from the same disk.

    Args:
        context: What the recorder knows at the command's start.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._thread = threading.Thread(target=self._run, name="hash-ahead", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Wait until all is hashed, unless the command was too short for it to have begun, or haste is asked for."""
        self._thread.join(_SAY_AFTER_SECONDS)
        if self._thread.is_alive():
            self._context.progress("hashing data files …")
            self._thread.join()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        began = time.monotonic()
        while time.monotonic() - began < _SHORT_SECONDS:
            if self._context.patience.ended:
                return
            time.sleep(_LOOK_SECONDS)
        with contextlib.suppress(Exception):  # the look afterwards hashes what is missing, and says what it cannot
            self._hash()

    def _hash(self) -> None:
        from repro.record.files import listing
        from repro.record.files.moments import data_cache

        context = self._context
        cache, saved_at = data_cache(context, context.settings.hash), time.monotonic()
        for path, about in listing.declared(context.declared, context.working_directory):
            if context.patience.lost:
                break
            if cache.digest(path, about) is not None:
                continue
            for _, outcome in manyfiles.digest_files(
                [path], context.settings.hash, give_up=lambda: context.patience.lost
            ):
                if outcome.digest is not None and outcome.about is not None:
                    cache.remember(path, outcome.about, outcome.digest)
            if time.monotonic() - saved_at > _SAVE_SECONDS:  # the recorder may be killed
                cache.save()
                saved_at = time.monotonic()
        cache.save()
