"""Watch every file and program of a run from outside the training process, with the kernel's help.

The agent says which library read what; this layer makes the list complete, for every process and every language. It
watches by seccomp user notification where it can, by strace where that is installed, and says so where neither works.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from repro.evidence.model import Gap
from repro.record.streams import Wanted
from repro.record.supervise import Job, Launcher, start_local

NAME: Final = "kernel.log"
"""The log's name in the folder for event logs."""

SCHEMA: Final = 1
"""Version of its lines."""

LAYER_VARIABLE: Final = "REPRO_LINEAGE"
"""An environment variable that names the only layer to try, `seccomp` or `strace`, where the other does harm."""

_UNWANTED: Final = f"{LAYER_VARIABLE} asks for another layer"
NOT_WATCHED: Final = "only what Python itself opened was seen: no kernel layer could watch"


class Watch(Protocol):
    """A layer that is ready to watch one command."""

    layer: str
    """`seccomp` or `strace`."""

    def start(self, argv: tuple[str, ...], cwd: Path, env: Mapping[str, str], streams: Wanted) -> Job:
        """Start the command under the watch; a `supervise.Launcher`.

        Raises:
            UsageError: There is no such command, or it cannot be executed.
        """
        ...

    def finish(self, timeout_seconds: float) -> None:
        """Wait, once the command has ended, until the log is complete; not for ever: processes may outlive it."""
        ...


def choose(
    argv: tuple[str, ...],
    cwd: Path,
    env: Mapping[str, str],
    events: Path,
    *,
    launcher: Launcher = start_local,
) -> tuple[Watch | None, tuple[Gap, ...]]:
    """Return the best layer that this machine and this command allow, and what is not seen for lack of a better one.

    Args:
        argv: The command.
        cwd: Where it will run.
        env: Its environment.
        events: The run's folder for event logs, where `kernel.log` is written.
        launcher: Starts the command as a child of the thread that calls it.
    """
    from repro.record.kernel import seccomp

    wanted = env.get(LAYER_VARIABLE) or "any"
    seccomp_refused = _asked(partial(seccomp.available, argv, cwd, env)) if wanted in ("any", "seccomp") else _UNWANTED
    if seccomp_refused is None:
        return seccomp.Seccomp(events, launcher), ()
    from repro.record.kernel import strace

    strace_refused = _asked(partial(strace.available, argv, cwd, env)) if wanted in ("any", "strace") else _UNWANTED
    if strace_refused is None:
        return strace.Strace(events, launcher), ()
    reason = f"{NOT_WATCHED} (seccomp: {seccomp_refused}; strace: {strace_refused})"
    return None, (Gap(topic="lineage", subject="kernel", reason=reason),)


def _asked(available: Callable[[], str | None]) -> str | None:
    """Return why a layer cannot watch; that it could not even be asked is a reason, too."""
    try:
        return available()
    except Exception as error:  # noqa: BLE001 - the command starts unwatched, and the gap says so
        return f"it failed: {type(error).__name__}: {error}"[:200]
