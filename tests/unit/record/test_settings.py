from __future__ import annotations

from pathlib import Path

import pytest

from repro.errors import UsageError
from repro.record import settings
from repro.record.settings import Settings
from repro.record.tracing import Tracing


def test_a_project_that_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert Settings() == settings.load(tmp_path)
    assert Settings() == settings.load(tmp_path / "nowhere")


def test_a_table_in_pyproject(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.repro]\nhash = "blake3"\ndata = ["data/raw"]\n')
    assert Settings(hash="blake3", data=("data/raw",)) == settings.load(tmp_path)


def test_what_to_trace(tmp_path: Path) -> None:
    (tmp_path / "repro.toml").write_text("trace-every = 0\ntrace-budget = 2\n")
    assert Settings(tracing=Tracing(every=0, budget=0.02)) == settings.load(tmp_path)


def test_what_is_not_judged_and_where_metrics_are(tmp_path: Path) -> None:
    (tmp_path / "repro.toml").write_text("unjudged = ['*_seconds']\nmetric-files = []\n")
    assert Settings(unjudged=("*_seconds",), metric_files=()) == settings.load(tmp_path)


def test_a_file_of_its_own_wins(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.repro]\nhash = "blake3"\n')
    (tmp_path / "repro.toml").write_text('wheelhouse = "always"\n')
    assert Settings(wheelhouse="always") == settings.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hash = ", "not valid TOML"),
        ("hash = 'md5'", "hash is 'md5'"),
        ("wheelhouse = true", "wheelhouse is True"),
        ("data = 'raw'", "data is not a list"),
        ("data = ['']", "data is not a list"),
        ("unjudged = 'a'", "unjudged is not a list"),
        ("metric-files = [1]", "metric-files is not a list"),
        ("trace-every = -1", "trace-every is -1"),
        ("trace-every = true", "trace-every is True"),
        ("trace-budget = 'all'", "trace-budget is 'all'"),
        ("hashes = 1", "no setting 'hashes'"),
    ],
)
def test_a_mistake_is_named_with_its_file(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "repro.toml").write_text(text)
    with pytest.raises(UsageError, match=rf"repro\.toml.*{said}"):
        settings.load(tmp_path)


def test_tool_repro_may_be_no_table(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("tool.repro = 1\n")
    with pytest.raises(UsageError, match="not a table"):
        settings.load(tmp_path)
