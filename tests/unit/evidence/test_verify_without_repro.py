"""The commands of docs/how-to/verify-without-repro.md, run as they stand there, with no tool of ours."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repro.evidence import canonical, keys

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "verify-without-repro.md"
COMMANDS = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
NEEDED = ("openssl", "base64", "sha256sum", "sed", "tr", "wc")


@pytest.fixture
def given(sealed: Any, tmp_path: Path) -> Path:
    """Return what an auditor is given."""
    for tool in NEEDED:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool}: not installed")
    folder = tmp_path / "auditor's desk"
    shutil.copytree(sealed.directory.path, folder)
    shutil.copytree(sealed.store.objects.root, folder / "objects")
    shutil.copy(keys.public_path(sealed.store), folder / "signer.pub")
    return folder


def run_page(folder: Path) -> list[subprocess.CompletedProcess[str]]:
    shell = ["bash", "-euo", "pipefail", "-c"]
    options: dict[str, Any] = {"cwd": folder, "capture_output": True, "text": True, "errors": "replace"}
    return [subprocess.run([*shell, text], check=False, **options) for text in COMMANDS]


def test_an_honest_run_passes_every_step(given: Path, sealed: Any) -> None:
    steps = run_page(given)
    assert [0] * len(COMMANDS) == [step.returncode for step in steps], [step.stderr for step in steps]
    assert sealed.sealed.keyid == f"sha256:{steps[0].stdout.strip()}"
    assert "Signature Verified Successfully" in steps[2].stdout
    assert "manifest.duckdb: OK\n" == steps[3].stdout
    objects = [path for path in (given / "objects").rglob("*") if path.is_file()]
    assert len(objects) == steps[5].stdout.count(": OK") == 5
    assert sealed.directory.run_id == canonical.loads(steps[6].stdout.encode())["predicate"]["run_id"]


def bend(path: Path) -> None:
    path.chmod(0o644)
    data = path.read_bytes()
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])


def forge(folder: Path) -> None:
    path = folder / "statement.dsse.json"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b'"payload":"eyJ', b'"payload":"eyK'))


def swap_key(folder: Path) -> None:
    secret = folder / "other.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", secret], check=True)
    subprocess.run(["openssl", "pkey", "-in", secret, "-pubout", "-out", folder / "signer.pub"], check=True)


@pytest.mark.parametrize(
    ("attack", "step"),
    [
        (swap_key, 2),
        (forge, 2),
        (lambda folder: bend(folder / "manifest.duckdb"), 3),
        (lambda folder: (folder / "manifest.duckdb.wal").touch(), 4),
        (lambda folder: bend(next(path for path in (folder / "objects").rglob("*") if path.is_file())), 5),
        (lambda folder: next(path for path in (folder / "objects").rglob("*") if path.is_file()).unlink(), 5),
    ],
)
def test_an_attack_fails_at_its_step(given: Path, attack: Callable[[Path], None], step: int) -> None:
    attack(given)
    failed = [number for number, ran in enumerate(run_page(given)) if ran.returncode != 0]
    assert step == failed[0]
