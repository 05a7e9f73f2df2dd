"""`repro restore`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from repro.replay.restoring import Restored


def restore(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run id, a unique prefix of one, @last or @prev.")],
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="Where to write: new, or empty.")],
    trust: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="A public key to trust for this once. Repeatable.")
    ] = None,
    allow_unknown_signer: Annotated[
        bool, typer.Option("--allow-unknown-signer", help="Restore a record that no trusted key signed.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write the code tree of a run from the store, byte for byte.

    The record is verified first; no remote is asked. DIRECTORY/tree is the tree as it stood before the command started.
    Source trees outside it, which editable installs pointed to, go to DIRECTORY/outside, at their absolute paths. What
    the record says was not captured is listed.

    Example: repro restore @last restored
    """
    from repro.cli import terminal
    from repro.evidence.store import Store, home
    from repro.replay.restoring import restore as write

    store = Store(home())
    with terminal.progress(quiet=json) as progress:
        restored = write(
            store.find(run),
            store,
            directory.absolute(),
            trust=tuple(trust or ()),
            allow_unknown_signer=allow_unknown_signer,
            progress=progress,
        )
    if json:
        terminal.answer(_document(restored))
        return
    for line in _lines(restored):
        print(terminal.plain(line))


def _lines(restored: Restored) -> list[str]:
    lines = [f"run {restored.run_id}: {restored.files} files in {restored.tree}"]
    if restored.outside is not None:
        lines.append(f"  {restored.outside_files} files of source trees outside it in {restored.outside}")
    if restored.missing:
        lines.append(f"not everything was captured ({len(restored.missing)} gaps)")
        lines += [f"  {gap.subject}: {gap.reason}" for gap in restored.missing]
    return lines


def _document(restored: Restored) -> dict[str, object]:
    import dataclasses

    return dataclasses.asdict(restored)
