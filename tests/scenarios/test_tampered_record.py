"""One byte changed in the manifest, the envelope or an object: `verify` exits 3 and names it, as do the readers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


@pytest.fixture
def sealed(record, tmp_path: Path, repro_home: Path) -> Path:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "job.py").write_text("print('hello')")
    assert record([sys.executable, "job.py"], cwd=tmp_path / "work").exit_status == 0
    (run,) = (repro_home / "runs").iterdir()
    return run


def _flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["manifest.duckdb", "statement.dsse.json"])
@pytest.mark.parametrize("where", [0.1, 0.5, 0.9])
def test_a_changed_byte_in_the_run(repro, sealed: Path, tmp_path: Path, name: str, where: float) -> None:
    _flip(sealed / name, int((sealed / name).stat().st_size * where))
    verified = repro("verify", "@last", cwd=tmp_path)
    if verified.exit_status == 2:  # an envelope that cannot even be listed is still found by its id
        verified = repro("verify", sealed.name, cwd=tmp_path)
    assert verified.exit_status == 3, verified.err
    assert name in verified.out + verified.err


def test_a_changed_object(repro, sealed: Path, repro_home: Path, tmp_path: Path) -> None:
    altered = next(
        path
        for path in (repro_home / "objects").rglob("*")
        if path.is_file() and path.read_bytes() == b"print('hello')"
    )
    _flip(altered, 3)
    verified = repro("verify", "@last", cwd=tmp_path)
    assert verified.exit_status == 3
    assert str(altered.relative_to(repro_home)) in verified.out
    assert 3 == repro("replay", "@last", "--executor", "host", cwd=tmp_path).exit_status


def test_a_missing_object_is_missing_evidence(repro, sealed: Path, repro_home: Path, tmp_path: Path) -> None:
    next(path for path in (repro_home / "objects").rglob("*") if path.is_file()).unlink()
    assert 5 == repro("verify", "@last", cwd=tmp_path).exit_status


def test_a_forged_signer(repro, sealed: Path, repro_home: Path, tmp_path: Path) -> None:
    for key in (repro_home / "keys").iterdir():
        if key.is_file():
            key.unlink()
    verified = repro("verify", "@last", cwd=tmp_path)
    assert verified.exit_status == 4
    assert "INTACT-UNKNOWN-SIGNER" in verified.out


def test_an_intact_record(repro, sealed: Path, tmp_path: Path) -> None:
    verified = repro("verify", "@last", cwd=tmp_path)
    assert verified.exit_status == 0
    assert "INTACT" in verified.out
