"""`python -m repro` is `repro`."""

from repro.cli.entry import program

program()
