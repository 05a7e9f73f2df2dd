"""The entry point: the table of commands, and the one place that turns errors into messages and exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from repro import __version__
from repro.cli import diff, keys, record, replay, report, runs, show, verify
from repro.errors import INTERRUPTED, OUR_BUG, ReproError

app = typer.Typer(
    name="repro",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_COMMANDS: dict[str, Callable[..., None]] = {
    "record": record.record,
    "replay": replay.replay,
    "verify": verify.verify,
    "diff": diff.diff,
    "report": report.report,
    "runs": runs.runs,
    "show": show.show,
}
for _name, _function in _COMMANDS.items():
    # Options after the first word of the recorded command are the command's own, with or without `--`.
    _settings = {"allow_interspersed_args": False} if _name == "record" else None
    app.command(_name, context_settings=_settings)(_function)
app.add_typer(keys.app, name="keys")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"repro {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """Record a training run with no change to its code, seal what was seen, run it again, and say where it differs."""


def main() -> None:
    """Run the command line and exit with the status that docs/reference/errors.md lists."""
    try:
        app()
    except ReproError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Exception:  # noqa: BLE001 - the last line of defence: a bug of ours, shown whole, with its own status
        import traceback

        traceback.print_exc()
        print("hint: this is a bug in repro; please report it with the lines above", file=sys.stderr)
        sys.exit(OUR_BUG)
