"""The entry point, and the one place that turns errors into messages and exit codes."""

from __future__ import annotations

import gc
import os
import signal
import sys
from types import FrameType

from repro.errors import INTERRUPTED, OUR_BUG, ReproError

_COLLECT_AFTER = 50_000
"""Objects between two looks for garbage: with Python's 700, looking takes 10 ms of a short command."""
_QUERY_INTERRUPTED = "Query interrupted"
"""What DuckDB makes of any exception that a signal's handler raises while it works."""
_ended_by: list[int] = []
"""Statuses for the signals that ended us."""


def program() -> None:
    """Run the command line as a process of its own, and end it.

    After `repro record` nothing is left to be taken down: what was sealed is on the disk. To do it would take 20 ms.
    """
    gc.set_threshold(_COLLECT_AFTER)
    try:
        main()
    except SystemExit as end:
        if sys.argv[1:2] == ["record"] and isinstance(end.code, int):
            _leave(end.code)
        raise


def _leave(status: int) -> None:
    """End this process at once, unless what it has to say cannot be said: Python knows what to do then."""
    import atexit
    import contextlib

    with contextlib.suppress(Exception):
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status & 0xFF)


def main() -> None:
    """Run the command line and exit with the status that docs/reference/errors.md lists."""
    _open_closed_streams()
    _clean_up_when_terminated()
    try:
        _run(sys.argv[1:])
    except ReproError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Exception as error:  # noqa: BLE001 - the last line of defence: a bug of ours, shown whole, with its own status
        if str(error) == _QUERY_INTERRUPTED:
            sys.exit(_ended_by[-1] if _ended_by else INTERRUPTED)
        import traceback

        traceback.print_exc()
        print("hint: this is a bug in repro; please report it with the lines above", file=sys.stderr)
        sys.exit(OUR_BUG)


def _open_closed_streams() -> None:
    """Send what we say nowhere where standard output or error is closed: else a file of ours would get its number."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115 - until we end


def _clean_up_when_terminated() -> None:
    """Let what is under way remove its temporary folders when a scheduler or a closed terminal ends us."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    _ended_by.append(128 + number)
    raise SystemExit(128 + number)


def _run(arguments: list[str]) -> None:
    if arguments[:1] == ["record"]:
        from repro.cli import recording

        options = recording.parse(arguments[1:])
        if options is not None:
            recording.run(options)
    from repro.cli.main import app

    app()
