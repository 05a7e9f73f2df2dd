"""Write the reference pages that are made from the code, or check that they are up to date.

python docs/generate.py            writes docs/reference/cli.md and docs/reference/manifest.md
python docs/generate.py --check    exits 1 and names the stale pages
"""

from __future__ import annotations

import html
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
NOTE = "<!-- Made by docs/generate.py from {source}; `make docs` writes it anew. -->\n\n"

MANIFEST_HEAD = """\
One DuckDB file per run, `manifest.duckdb`, written once and sealed. Any DuckDB client reads it:

    duckdb -readonly manifest.duckdb "SELECT step, value FROM metric WHERE name = 'loss' ORDER BY step"

Times are UTC, ISO 8601 with microseconds and a `Z`. Digests are `sha256:` and 64 hexadecimal digits. The bytes behind a
digest are in the object store.
"""
CLI_HEAD = """\
# The command line

Each section is what `--help` prints. Exit statuses are in [errors.md](errors.md).
"""


class Column(NamedTuple):
    """One column as the DDL declares it; `comment` is what stands behind it."""

    name: str
    kind: str
    required: bool
    comment: str


class Table(NamedTuple):
    """One table of the DDL, with the comment above it."""

    name: str
    comment: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]


def parse_tables(ddl: str) -> list[Table]:
    """Read the tables of a DDL in the form that schemas/ keeps: one column a line, comments above and behind."""
    found = re.finditer(r"((?:^--[^\n]*\n)*)^CREATE TABLE (\w+) \(\n(.*?)^\);", ddl, re.MULTILINE | re.DOTALL)
    return [_parse_table(*match.groups()) for match in found]


def _parse_table(above: str, name: str, body: str) -> Table:
    columns = [column for line in body.splitlines() if (column := _parse_column(line))]
    comment, _, key = above.partition("-- Key: ")
    return Table(name, _uncomment(comment), tuple(columns), tuple(re.findall(r"\w+", key)))


def _parse_column(line: str) -> Column | None:
    declared, _, comment = line.partition("--")
    match = re.match(r"\s*([a-z_0-9]+) ([A-Z]+(?:\[\])?)(.*)", declared)
    if not match:
        return None
    name, kind, constraints = match.groups()
    required = bool(re.search("NOT NULL", constraints))
    return Column(name, kind, required, html.escape(comment.strip(), quote=False))


def _uncomment(lines: str) -> str:
    return " ".join(line.removeprefix("--").strip() for line in lines.splitlines())


def manifest_page() -> str:
    """Return docs/reference/manifest.md, made from the newest DDL in schemas/."""
    source = max((ROOT / "schemas").glob("manifest-*.sql"), key=lambda path: int(path.stem.rpartition("-")[2]))
    version = source.stem.rpartition("-")[2]
    head = f"# The manifest, version {version}\n\n{MANIFEST_HEAD}"
    body = "\n".join(_table_section(table) for table in parse_tables(source.read_text(encoding="utf-8")))
    return NOTE.format(source=source.relative_to(ROOT)) + head + "\n" + body


def _table_section(table: Table) -> str:
    rows = [
        f"| `{column.name}` | {column.kind} | {'' if column.required else 'may be NULL'} | {column.comment} |"
        for column in table.columns
    ]
    key = f"Key: {', '.join(f'`{name}`' for name in table.key)}.\n\n" if table.key else ""
    head = f"## `{table.name}`\n\n{table.comment}\n\n{key}| column | type | | meaning |\n| --- | --- | --- | --- |\n"
    return head + "\n".join(rows) + "\n"


def cli_page() -> str:
    """Return docs/reference/cli.md: what `--help` prints, for each command of the tree."""
    sections = [f"## `{' '.join(path)}`\n\n```text\n{text}\n```\n" for path, text in help_texts()]
    return NOTE.format(source="repro/cli") + CLI_HEAD + "\n" + "\n".join(sections)


def help_texts() -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield each command's words and its help, the root first."""
    from typer.main import get_command
    from typer.testing import CliRunner

    from repro.cli.main import app

    runner = CliRunner()
    for path in _paths(get_command(app), ()):
        result = runner.invoke(app, [*path, "--help"], prog_name="repro", env={"COLUMNS": "100", "NO_COLOR": "1"})
        if result.exit_code != 0:
            raise SystemExit(f"repro {' '.join(path)} --help failed: {result.exception!r}")
        yield ("repro", *path), "\n".join(line.rstrip() for line in result.stdout.strip().splitlines())


def _paths(command: object, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    yield path
    for name, child in getattr(command, "commands", {}).items():
        yield from _paths(child, (*path, name))


PAGES = {"docs/reference/manifest.md": manifest_page, "docs/reference/cli.md": cli_page}


def stale_pages() -> list[str]:
    """Return the pages on disk that differ from what would be written now."""
    return [name for name, make in PAGES.items() if not (ROOT / name).exists() or (ROOT / name).read_text() != make()]


def main() -> None:
    """Write the pages, or with `--check` only compare them."""
    if sys.argv[1:] == ["--check"]:
        if stale := stale_pages():
            raise SystemExit(f"error: out of date: {', '.join(stale)}\nhint: run `make docs` and commit the result")
        return
    for name, make in PAGES.items():
        (ROOT / name).write_text(make(), encoding="utf-8")
        print(name)


if __name__ == "__main__":
    main()
