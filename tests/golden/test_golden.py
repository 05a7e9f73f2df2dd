"""Threat 67: the runs that past versions sealed are still intact, and still say the same."""

from __future__ import annotations

import runpy
import struct
from pathlib import Path

import pytest

from repro.evidence import integrity, keys, trust
from repro.evidence.integrity import RecordLight
from repro.evidence.store import Store

HERE = Path(__file__).parent
VERSIONS = sorted(path.name for path in HERE.iterdir() if (path / "runs").is_dir())


def test_there_are_golden_runs() -> None:
    assert "1" in VERSIONS


@pytest.mark.parametrize("version", VERSIONS)
def test_a_golden_run_is_intact(version: str) -> None:
    store = Store(HERE / version)
    public = trust.read_public(HERE / version / "signing.pub")
    (summary,) = store.runs()
    result = integrity.examine(store.find(summary.run_id), store, {keys.fingerprint(public): public})
    assert () == result.problems
    assert result.light is RecordLight.INTACT
    assert (keys.fingerprint(public),) == result.signers


def test_version_1_reads_back_as_it_was_made(tmp_path: Path) -> None:
    made = runpy.run_path(str(HERE / "make.py"))
    store = Store(HERE / "1")
    (directory,) = (store.find(run.run_id) for run in store.runs())
    record = integrity.load(directory, store, {}, allow_unknown_signer=True)
    expected = made["sample"](directory.run_id, Store(tmp_path).objects)
    bits = [[struct.pack(">d", metric.value) for metric in each.metrics] for each in (expected, record)]
    assert bits[0] == bits[1]
    assert repr(expected) == repr(record)
