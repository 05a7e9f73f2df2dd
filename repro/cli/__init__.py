"""The command line: one file per command; each parses, calls one verb, prints and exits.

Files here import the verbs inside their functions, so that `repro --help` costs what a typer hello-world costs.
"""
