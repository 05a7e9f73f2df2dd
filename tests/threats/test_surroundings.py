"""Threats 57 and 68: who can read the key, and where the verifier runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repro.errors import UsageError
from repro.evidence import keys, manifest

ROOT = Path(manifest.__file__).parents[2]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o610, 0o601, 0o777])
def test_57_a_key_that_others_can_read(victim: Any, mode: int) -> None:
    (victim.store.keys / "signing.pem").chmod(mode)
    with pytest.raises(UsageError, match="others can read the signing key") as caught:
        keys.machine_key(victim.store)
    assert caught.value.hint == f"run: chmod 600 {victim.store.keys / 'signing.pem'}"


def test_57_a_key_behind_a_symbolic_link(victim: Any, tmp_path: Path) -> None:
    path = victim.store.keys / "signing.pem"
    path.rename(tmp_path / "elsewhere.pem")
    path.symlink_to(tmp_path / "elsewhere.pem")
    with pytest.raises(UsageError, match="is a symbolic link"):
        keys.machine_key(victim.store)


def test_57_a_link_to_nowhere_is_not_written_through(victim: Any, tmp_path: Path) -> None:
    path = victim.store.keys / "signing.pem"
    path.unlink()
    path.symlink_to(tmp_path / "planted.pem")
    with pytest.raises(UsageError, match="is a symbolic link"):
        keys.machine_key(victim.store)
    assert not (tmp_path / "planted.pem").exists()


def test_57_a_key_that_is_no_file(victim: Any) -> None:
    path = victim.store.keys / "signing.pem"
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(UsageError, match="is not a plain file"):
        keys.machine_key(victim.store)


@pytest.mark.parametrize("owned", ["directory", "key"])
def test_57_a_key_or_its_directory_of_another_user(victim: Any, monkeypatch: pytest.MonkeyPatch, owned: str) -> None:
    if os.geteuid() == 0:
        os.chown(victim.store.keys / ("signing.pem" if owned == "key" else "."), 65534, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(UsageError, match="belongs to another user"):
        keys.machine_key(victim.store)


@pytest.mark.parametrize("mode", [0o777, 0o720, 0o702])
def test_57_a_directory_that_others_can_write_to(victim: Any, mode: int) -> None:
    victim.store.keys.chmod(mode)
    with pytest.raises(UsageError, match="others can write to the key directory") as caught:
        keys.machine_key(victim.store)
    assert caught.value.hint == f"run: chmod 700 {victim.store.keys}"


def test_57_a_key_made_under_a_careless_umask_is_private(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path\n"
        "from repro.evidence import keys; from repro.evidence.store import Store\n"
        "os.umask(0); keys.machine_key(Store(Path(sys.argv[1])))\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "home")], cwd=ROOT, check=True)
    assert 0o600 == (tmp_path / "home/keys/signing.pem").stat().st_mode & 0o777
    assert 0o700 == (tmp_path / "home/keys").stat().st_mode & 0o777


VERIFY = """
import sys
from pathlib import Path
from repro.evidence import integrity, trust
from repro.evidence.store import Store

store = Store(Path(sys.argv[1]))
result = integrity.examine(store.find("@last"), store, trust.trusted_keys(store))
print(result.light, len(result.problems))
"""


def verify_in(folder: Path, victim: Any, script: Path, **environment: str) -> str:
    command = [sys.executable, str(script), str(victim.store.root)]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment}
    ran = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=True, timeout=60)
    assert "" == ran.stderr
    return ran.stdout.strip()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"LANG": "tr_TR.UTF-8", "LC_ALL": "C"},
        {"TZ": "Pacific/Kiritimati"},
        {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"},
        {"PYTHONHASHSEED": "1"},
        {"HOME": "{folder}", "XDG_CONFIG_HOME": "{folder}"},
    ],
)
def test_68_a_hostile_working_directory_and_environment(
    victim: Any, tmp_path: Path, environment: dict[str, str]
) -> None:
    folder, script = tmp_path / "hostile", tmp_path / "bin" / "verify"
    script.parent.mkdir()
    script.write_text(VERIFY)
    folder.mkdir()
    for name in ("duckdb.py", "cryptography.py", "jsonschema.py", "json.py", "repro.py"):
        (folder / name).write_text("raise SystemExit('imported from the working directory')")
    (folder / ".duckdbrc").write_text(".print hostile\n")
    (folder / "manifest.duckdb").write_bytes(b"hostile")
    (folder / "schemas").mkdir()
    filled = {name: value.format(folder=folder) for name, value in environment.items()}
    assert "INTACT 0" == verify_in(folder, victim, script, **filled)


def test_68_the_verifier_sees_what_is_altered_there_too(victim: Any, tmp_path: Path) -> None:
    """A control: the script above does tell."""
    script = tmp_path / "verify"
    script.write_text(VERIFY)
    victim.write(victim.directory.manifest, b"altered")
    assert "ALTERED 1" == verify_in(tmp_path, victim, script)


def test_56_the_private_key_is_in_no_file_but_its_own(make_victim: Callable[[], Any]) -> None:
    victim = make_victim()
    secret = (victim.store.keys / "signing.pem").read_bytes().splitlines()[1]
    holders = [path for path in victim.store.root.rglob("*") if path.is_file() and secret in path.read_bytes()]
    assert [victim.store.keys / "signing.pem"] == holders
