"""The documents say what is so: generated pages are current, links lead somewhere, every command shows an example."""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from repro.evidence import model

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md", "tests/**/*.md", "replay_images/*.md")
    for path in ROOT.glob(pattern)
)


@cache
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs/generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generated_pages_are_current() -> None:
    assert [] == generator().stale_pages(), "run `make docs`"


def test_a_stale_page_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = "docs/reference/manifest.md"
    (tmp_path / "docs/reference").mkdir(parents=True)
    (tmp_path / page).write_text("old")
    monkeypatch.setattr(generator(), "ROOT", tmp_path)
    monkeypatch.setattr(generator(), "PAGES", {page: lambda: "new"})
    assert [page] == generator().stale_pages()
    (tmp_path / page).write_text("new")
    assert [] == generator().stale_pages()


def test_every_table_and_column_of_the_model_is_in_the_reference() -> None:
    tables = generator().parse_tables((ROOT / "schemas/manifest-1.sql").read_text())
    found = {table.name: tuple(column.name for column in table.columns) for table in tables}
    assert {name: model.columns(row) for name, row in model.TABLES.items()} == {
        name: columns for name, columns in found.items() if name in model.TABLES
    }
    assert [] == [table.name for table in tables if not table.comment or not table.key]


def test_every_command_says_what_it_does_and_gives_an_example() -> None:
    texts = dict(generator().help_texts())
    assert ("repro", "record") in texts
    commands = [path for path in texts if not any(other[: len(path)] == path for other in texts if other != path)]
    assert [] == [path for path in commands if f"Example: {' '.join(path)}" not in texts[path]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_or_a_heading_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL))
    local = [(path, anchor) for path, anchor in targets if not re.match(r"[a-z]+:", path)]
    assert [] == [path for path, _ in local if path and not (page.parent / path).exists()]
    dead = [
        (path, anchor)
        for path, anchor in local
        if anchor and anchor not in anchors(page.parent / path if path else page)
    ]
    assert [] == dead


def anchors(page: Path) -> set[str]:
    """Return the anchors that a Markdown page's headings make."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
