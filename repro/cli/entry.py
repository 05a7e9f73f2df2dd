"""The entry point, and the one place that turns errors into messages and exit codes."""

from __future__ import annotations

import sys

from repro.errors import INTERRUPTED, OUR_BUG, ReproError


def main() -> None:
    """Run the command line and exit with the status that docs/reference/errors.md lists."""
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
    except Exception:  # noqa: BLE001 - the last line of defence: a bug of ours, shown whole, with its own status
        import traceback

        traceback.print_exc()
        print("hint: this is a bug in repro; please report it with the lines above", file=sys.stderr)
        sys.exit(OUR_BUG)


def _run(arguments: list[str]) -> None:
    if arguments[:1] == ["record"]:
        from repro.cli import recording

        options = recording.parse(arguments[1:])
        if options is not None:
            recording.run(options)
    from repro.cli.main import app

    app()
