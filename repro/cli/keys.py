"""`repro keys`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Show the keys that this machine trusts, and add to them.", no_args_is_help=True)


@app.command()
def show(
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the keys that this machine trusts; its own is made by the first `repro record`.

    Example: repro keys show
    """
    from repro.cli import terminal
    from repro.evidence import trust
    from repro.evidence.store import Store, home

    store = Store(home())
    trusted = trust.trusted_files(store)
    if json:
        terminal.answer([{"fingerprint": keyid, "file": str(path)} for path, keyid in trusted.items()])
    elif trusted:
        print(terminal.table([(keyid, str(path)) for path, keyid in trusted.items()], header=("fingerprint", "file")))
    else:
        print(f"no keys in {store.keys} yet; the first `repro record` makes one")


@app.command()
def trust(
    file: Annotated[Path, typer.Argument(help="A public key in PEM form, received by a way that you trust.")],
    name: Annotated[str, typer.Option(help="What to call it; by default the file's own name.")] = "",
) -> None:
    """Trust the signatures of a key from now on.

    Example: repro keys trust alice.pub
    """
    from repro.evidence import trust as trust_store
    from repro.evidence.store import Store, home

    keyid, path = trust_store.add(Store(home()), file, name or file.stem)
    print(f"trusted from now on: {keyid} ({path})")
