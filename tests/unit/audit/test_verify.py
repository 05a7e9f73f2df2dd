"""Verify a run, and look at its outputs where it left them."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from repro.audit.verify import outputs_now, verify
from repro.evidence import canonical, trust
from repro.evidence.integrity import RecordLight


@pytest.fixture
def record(make, tmp_path):
    root = tmp_path / "tree"
    (root / "runs").mkdir(parents=True)
    record = make.original()
    return replace(record, run=replace(record.run, root=canonical.encode_path(root)))


def states(record):
    return {output.path: output.state for output in outputs_now(record)}


def test_outputs_are_unchanged_changed_or_gone(record, tmp_path):
    (tmp_path / "tree/runs/best.pt").write_text("weights")
    (tmp_path / "tree/runs/last.pt").write_text("other weights")
    assert states(record) == {
        "runs/best.pt": "unchanged",
        "runs/last.pt": "changed since",
        "runs/timing.json": "gone",
    }


def test_what_was_not_hashed_cannot_be_compared(record, make):
    assert states(replace(record, data_files=(make.output("x", "x", digest=None),))) == {"x": "not hashed"}


def test_an_output_is_hashed_as_it_was_recorded(record, make, tmp_path):
    blake3 = pytest.importorskip("blake3", reason="blake3: not installed").blake3
    (tmp_path / "tree/w.pt").write_text("weights")
    row = make.output("w.pt", "weights", digest=f"blake3:{blake3(b'weights').hexdigest()}")
    assert states(replace(record, data_files=(row,))) == {"w.pt": "unchanged"}


def test_what_is_no_file_any_more_is_gone(record, make, tmp_path):
    (tmp_path / "tree/d").mkdir()
    os.mkfifo(tmp_path / "tree/pipe")
    rows = tuple(make.output(path, "x") for path in ("d", "pipe"))
    assert states(replace(record, data_files=rows)) == {"d": "gone", "pipe": "gone"}


def test_names_that_are_no_text_are_found(record, make, tmp_path):
    name = b"w\xff\\.pt"
    (tmp_path / "tree" / os.fsdecode(name)).write_text("x")
    assert states(replace(record, data_files=(make.output(canonical.encode_path(name), "x"),))) == {
        r"w\xff\\.pt": "unchanged"
    }


def test_a_name_with_a_null_byte_cannot_be_read(record, make):
    assert set(states(replace(record, data_files=(make.output("a\0b", "x"),))).values()) <= {"gone", "cannot be read"}


def test_verify_says_what_the_record_is_and_what_became_of_its_outputs(record, sealed, store):
    directory = sealed(record)
    verified = verify(directory, store, trust.trusted_keys(store))
    assert verified.integrity.light is RecordLight.INTACT
    assert [output.state for output in verified.outputs] == ["gone"] * 3


def test_an_altered_record_has_no_outputs_to_believe(record, sealed, store):
    directory = sealed(record)
    directory.manifest.chmod(0o600)
    directory.manifest.write_bytes(b"")
    verified = verify(directory, store, trust.trusted_keys(store))
    assert (verified.integrity.light, verified.outputs) == (RecordLight.ALTERED, ())
