"""Which files are logs of metrics, and which are data: a table of predictions or a data set must not flood the record.

Where the settings name no files, one is read if

- its ending is that of JSON lines or CSV; or it is JSON and a word of its name says what it is (`metrics.json`), since
  most JSON that a training writes is configuration;
- no column tells samples apart (`filename`, `label`, `prediction` …): such rows are about samples, not a training;
- a column counts steps, or a word of the file's name says that it is a log and it has no more than `MOST_UNNUMBERED`
  rows: what counts nothing and is long is data.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Final

from repro.record.metricfiles.series import is_step, plain
from repro.record.metricfiles.tables import Cell, NotRead, Row, Table

MOST_UNNUMBERED: Final = 1_000
ENDINGS: Final = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")

_WORDS: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_OF_LOGS: Final = frozenset(
    (
        *("acc", "accuracy", "curve", "curves", "eval", "evaluation", "history", "log", "logs", "loss", "losses"),
        *("metric", "metrics", "monitor", "performance", "progress", "report", "result", "results", "score", "scores"),
        *("stat", "statistics", "stats", "summary", "trainer", "valid", "validation"),
    )
)
_OF_TRACKERS: Final = frozenset(("mlartifacts", "mlruns", "wandb"))
"""Folders in which trackers keep what they were told, and the agent too."""
_OF_SAMPLES: Final = frozenset(
    (
        *("file", "filename", "filepath", "ground_truth", "id", "idx", "image", "image_id", "image_path", "img"),
        *("label", "labels", "path", "pred", "predicted", "prediction", "predictions", "preds", "prompt", "sample"),
        *("sample_id", "sentence", "target", "targets", "text", "url", "y", "y_pred", "y_true"),
    )
)


def is_wanted(path: str, patterns: Sequence[str] | None) -> bool:
    """Say whether a file is to be looked at.

    Args:
        path: As in the manifest.
        patterns: Those of the settings, matched with the whole path and with its last part; `None` for the rule above.
    """
    name = path.rpartition("/")[2]
    plain_name = name.lower().removesuffix(".gz")
    if not plain_name.endswith(ENDINGS):
        return False
    if patterns is None and _OF_TRACKERS.intersection(path.split("/")[:-1]):
        return False
    if patterns is not None:
        return any(fnmatchcase(path, pattern) or fnmatchcase(name, pattern) for pattern in patterns)
    return not plain_name.endswith(".json") or _is_called_a_log(name)


def check(path: str, table: Table) -> None:
    """Pass where a table is a log of metrics.

    Raises:
        NotRead: It is not.
    """
    if telling := _of_samples(table.rows):
        raise NotRead(f"its column {telling} tells samples apart: rows of data, not steps of a training")
    if any(is_step(column) for row in table.rows for column in row):
        return
    if not _is_called_a_log(path.rpartition("/")[2]):
        raise NotRead("it has no column that counts steps, and its name does not say that it is a log")
    if len(table.rows) > MOST_UNNUMBERED:
        raise NotRead(f"it has more than {MOST_UNNUMBERED:,} rows and no column that counts steps")


def _of_samples(rows: Iterable[Row]) -> str:
    """Return a column of samples that is not the same in all rows; empty where there is none."""
    first: dict[str, Cell] = {}
    for row in rows:
        for column, value in row.items():
            if first.setdefault(column, value) != value and plain(column) in _OF_SAMPLES:
                return column
    return ""


def _is_called_a_log(name: str) -> bool:
    return any(word.lower() in _OF_LOGS for word in _WORDS.findall(name.partition(".")[0]))
