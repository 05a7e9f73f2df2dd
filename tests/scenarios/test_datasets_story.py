"""The data of a run as a compliance officer sees them: a few data sets, each with one digest, however they are read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

TRAIN = """
import pathlib, subprocess
for path in sorted(pathlib.Path("data").rglob("*.txt")): path.read_text()
subprocess.run(["cat", "labels.csv"], check=True)
hub = pathlib.Path("cache/hub/models--org--bert/snapshots/c0ffee/config.json").read_text()
state = open("state.json", "r+"); state.read(); state.seek(0); state.write("[2]")
pathlib.Path("model.tmp").write_text("weights"); pathlib.Path("model.tmp").rename("model.bin")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    for name in ("data/train/1.txt", "data/train/2.txt", "data/test/3.txt", "raw/unread.bin", "labels.csv"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "state.json").write_text("[1]")
    snapshot = folder / "cache/hub/models--org--bert/snapshots/c0ffee"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "blobs").mkdir()
    (snapshot.parents[1] / "blobs" / "0123").write_text("{}")
    (snapshot / "config.json").symlink_to("../../blobs/0123")
    (folder / "train.py").write_text(TRAIN)
    return folder


def test_a_few_data_sets_tell_of_all_that_was_read(repro, project: Path) -> None:
    arguments = ("record", "--lock-timeout", "0", "--data", "raw", "--", sys.executable, "train.py")
    assert repro(*arguments, cwd=project).exit_status == 0
    found: dict[str, Any] = repro("show", "--json", "@last", cwd=project).answer
    assert {each["name"]: (each["kind"], each["file_count"], each["reference"]) for each in found["datasets"]} == {
        "data": ("folder", 3, None),
        "labels.csv": ("file", 1, None),
        "raw": ("declared", 1, None),
        "state.json": ("file", 1, None),
        "hf:org/bert": ("huggingface", 1, "org/bert@c0ffee"),
    }
    rows = {(row["path"], row["role"]): row for row in found["data_files"]}
    assert rows["raw/unread.bin", "input"]["seen_by"] == "declared"
    assert rows["state.json", "input"]["digest"] != rows["state.json", "output"]["digest"]
    assert not rows["state.json", "input"]["changed_during_run"]
    assert ("model.bin", "output") in rows
    assert [(row["action"], row["path"], row["target"]) for row in found["file_changes"]] == [
        ("renamed", "model.tmp", "model.bin")
    ]
    assert not [gap for gap in found["gaps"] if gap["topic"] == "data"]


def test_the_same_data_elsewhere_have_the_same_digest(repro, project: Path) -> None:
    digests = []
    for name in ("one", "two"):
        folder = project.rename(project.with_name(name))
        (folder / "state.json").write_text("[1]")
        assert repro("record", "--lock-timeout", "0", "--", sys.executable, "train.py", cwd=folder).exit_status == 0
        found = repro("show", "--json", "@last", cwd=folder).answer
        digests.append({each["name"]: each["digest"] for each in found["datasets"]})
        project = folder
    assert digests[0] == digests[1]
    assert set(digests[0]) == {"data", "labels.csv", "state.json", "hf:org/bert"}
