"""A record that is not sealed yet is run again from a store of its own, of which nothing is left."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from repro.errors import InconclusiveError
from repro.evidence.model import Record
from repro.evidence.store import Store
from repro.record.capture import Findings
from repro.record.excerpt import WHOLE
from repro.record.recorder import Recorded, Request, record
from repro.replay.rehearsal import rehearsing

pytestmark = pytest.mark.usefixtures("unmeasured_jobs")

SCRIPT = """
import os, pathlib, random, sys
pathlib.Path("out.txt").write_text(f"{random.random()} {os.environ['HIDDEN_WORD']} {sys.stdin.read()}")
print("loud")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "train.py").write_text(SCRIPT)
    return root


def recorded(project: Path, store: Store, check: object) -> Recorded:
    request = Request(
        argv=(sys.executable, "train.py"),
        working_directory=project,
        environment=dict(os.environ),
        lock_timeout_seconds=0,
        check=check,  # type: ignore[arg-type]
    )
    return record(request, store, progress=lambda message: None)


def test_it_has_the_entropy_the_hidden_variables_and_no_input(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HIDDEN_WORD", "xyzzy")
    store, again = Store(tmp_path / "home"), list[Record]()

    def check(found: Record) -> Findings:
        with rehearsing(found, store, progress=lambda message: None) as rehearsal:
            again.append(rehearsal.again(WHOLE))
            assert rehearsal.store.root != store.root
        assert not rehearsal.store.root.exists()
        assert not list(store.cache.glob("self-check-*"))
        return Findings()

    run = recorded(project, store, check)
    assert [] == [gap for gap in run.record.gaps if gap.topic == "self_check"]
    (replay,) = again
    assert (run.run_id, "completed") == (replay.run.replay_of, replay.run.status)
    first, second = ({f.path: f.digest for f in each.data_files if f.role == "output"} for each in (run.record, replay))
    assert first["out.txt"] == second["out.txt"] is not None
    assert 1 == capfd.readouterr().out.count("loud")
    assert [run.run_id] == [each.run_id for each in store.runs()]


def test_what_fails_in_it_is_a_gap_and_the_run_is_sealed(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIDDEN_WORD", "xyzzy")
    store = Store(tmp_path / "home")

    def check(found: Record) -> Findings:
        with rehearsing(found, store, progress=lambda message: None):
            raise InconclusiveError("no answer")

    run = recorded(project, store, check)
    assert ["it failed: no answer"] == [gap.reason for gap in run.record.gaps if gap.topic == "self_check"]
    assert run.directory.statement.exists()
