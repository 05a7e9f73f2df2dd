"""The table of commands."""

from __future__ import annotations

from collections.abc import Callable

import typer

from repro import __version__
from repro.cli import diff, keys, merge, record, replay, report, restore, runs, show, verify

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
    "merge": merge.merge,
    "show": show.show,
    "restore": restore.restore,
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
