from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from repro.evidence.model import Fact, Package
from repro.record import lock
from repro.record.capture import Findings, Patience
from repro.record.capture import lock as capture
from repro.record.eventlog import Start

OLD_PYTHON = Path.home() / ".pyenv" / "versions" / "3.12.1" / "bin" / "python"


def wheel(folder: Path, name: str, version: str, *requires: str) -> str:
    """Make a wheel with nothing in it, and return its hash."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", "")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def package(name: str, version: str, origin: str = "index") -> Package:
    return Package(name=name, version=version, location="/site", origin=origin, direct_url=None, record_sha256=None)


@pytest.fixture
def start() -> Start:
    return Start(
        process_key="main", parent_key=None, pid=1, argv=("python",), executable=sys.executable, prefix=sys.prefix,
        base_prefix=sys.base_prefix, python_version="{}.{}.{}".format(*sys.version_info), implementation="cpython",
        build="",
        path=(), rank=None, world_size=None, started_at=0.0,
    )  # fmt: skip


@pytest.fixture
def index(tmp_path: Path, environment: dict[str, str]) -> dict[str, str]:
    """Variables with which pip knows nothing but a folder of wheels."""
    return {
        **environment,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path / "wheels"),
        "PIP_CONFIG_FILE": "/dev/null",
    }


def test_the_lock_is_exactly_what_is_installed_and_can_be_installed(start: Start, index, tmp_path: Path) -> None:
    first = wheel(tmp_path / "wheels", "alpha", "1.0+cpu", "gamma")
    second = wheel(tmp_path / "wheels", "beta", "2.0")
    wheel(tmp_path / "wheels", "gamma", "3.0")  # needed by alpha, and not installed
    packages = (package("alpha", "1.0+cpu"), package("beta", "2.0", "unknown"), package("mine", "0.1", "editable"))
    found = lock.resolve(start, packages, index, Patience(60))
    assert found.text == f"alpha==1.0+cpu \\\n    --hash=sha256:{first}\nbeta==2.0 \\\n    --hash=sha256:{second}\n"
    assert [(gap.topic, gap.subject) for gap in found.gaps] == [("lock", "mine")]
    (tmp_path / "lock.txt").write_text(found.text)
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--require-hashes",
        "--target",
        str(tmp_path / "t"),
    ]
    done = subprocess.run([*command, "-r", str(tmp_path / "lock.txt")], env=index, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "t" / "alpha.py").exists()


def test_what_the_index_does_not_have_is_a_gap_and_the_rest_is_locked(start: Start, index, tmp_path: Path) -> None:
    wheel(tmp_path / "wheels", "alpha", "1.0")
    packages = (package("alpha", "1.0"), package("lost-one", "9"), package("local", "1", "direct"))
    found = lock.resolve(start, packages, index, Patience(60))
    assert found.text.startswith("alpha==1.0 ")
    assert [gap.subject for gap in found.gaps] == ["local", "lost-one"]
    assert "from a file, a folder or a repository" in found.gaps[0].reason


def test_an_unreachable_index_is_a_gap_without_addresses(start: Start, environment) -> None:
    unreachable = {**environment, "PIP_INDEX_URL": "http://user:hunter2@127.0.0.1:1/simple", "PIP_RETRIES": "0"}
    unreachable |= {"PIP_CONFIG_FILE": "/dev/null"}
    found = lock.resolve(start, (package("alpha", "1.0"),), unreachable, Patience(60))
    assert (found.text, len(found.gaps)) == ("", 1)
    assert "hunter2" not in repr(found)
    assert "://" not in found.gaps[0].reason


def test_no_time_is_a_gap(start: Start, index, tmp_path: Path) -> None:
    patience = Patience(0.0)
    patience.command_ended()
    found = lock.resolve(start, (package("alpha", "1.0"),), index, patience)
    assert (found.text, found.gaps[0].subject) == ("", "index")
    assert "took longer than the run could wait" in found.gaps[0].reason


def test_patience_can_be_lost_at_once() -> None:
    patience = Patience(1000.0)
    assert (patience.ended, patience.spent) == (False, False)
    patience.command_ended()
    assert (patience.ended, patience.spent) == (True, False)
    patience.lose()
    assert patience.spent


@pytest.mark.skipif(not OLD_PYTHON.exists(), reason="there is no other Python on this machine")
def test_another_python_borrows_pip_tools_and_is_left_as_it_was(start: Start, index, tmp_path: Path) -> None:
    digest = wheel(tmp_path / "wheels", "alpha", "1.0")
    other = replace(start, executable=str(OLD_PYTHON), python_version="3.12.1")
    found = lock.resolve(other, (package("alpha", "1.0"),), index, Patience(60))
    assert (found.text, found.gaps) == (f"alpha==1.0 \\\n    --hash=sha256:{digest}\n", ())


def test_a_python_that_is_gone_is_a_gap(start: Start, index) -> None:
    other = replace(start, executable="/no/python", python_version="3.9.1")
    found = lock.resolve(other, (package("alpha", "1.0"),), index, Patience(60))
    assert "could not be started" in found.gaps[0].reason


def test_nothing_to_lock(start: Start, index) -> None:
    assert lock.resolve(start, (), index, Patience(1)) == lock.Lock(text="", gaps=())


def test_sections_and_markers_of_the_output_are_understood() -> None:
    text = """\
alpha==1.0 ; python_version >= "3.8" \\
    --hash=sha256:aa \\
    --hash=sha256:bb

# The following packages are considered to be unsafe in a requirements file:
Set_Up.tools==84.2.1 \\
    --hash=sha256:cc
"""
    found = lock._checked(text, {"alpha": "1.0", "set-up-tools": "84.2.1", "lost": "1"}, [])
    assert found.text == text.replace(
        "\n# The following packages are considered to be unsafe in a requirements file:\n", ""
    )
    assert [gap.subject for gap in found.gaps] == ["lost"]


def test_the_capture_asks_once_per_environment(start: Start, index, tmp_path: Path, context) -> None:
    wheel(tmp_path / "wheels", "alpha", "1.0")
    fingerprint = Fact(topic="environment", name="fingerprint", value="sha256:00", source="observed")
    packages = (package("alpha", "1.0"), package("lost", "1"))
    ctx = context(
        tmp_path, interpreter=start, environment=index, patience=Patience(60),
        findings=Findings(facts=(fingerprint,), packages=packages),
    )  # fmt: skip
    first = capture.beside(ctx)
    assert ctx.objects.get(first.fact("environment", "lock") or "").startswith(b"alpha==1.0 ")
    (tmp_path / "wheels" / "alpha-1.0-py3-none-any.whl").unlink()
    assert capture.beside(ctx) == first
    assert [gap.subject for gap in first.gaps] == ["lost"]
    elsewhere = replace(ctx, environment={**index, "PIP_FIND_LINKS": str(tmp_path)})
    assert capture.beside(elsewhere).fact("environment", "lock") is None


def test_a_replay_asks_for_no_lock(start: Start, tmp_path: Path, context) -> None:
    known = (Fact(topic="environment", name="fingerprint", value="sha256:00", source="observed"),)
    findings = Findings(facts=known, packages=(package("alpha", "1.0"),))
    ctx = context(tmp_path, interpreter=start, findings=findings, code_paths=("train.py",))
    assert capture.beside(ctx) == Findings()


def test_the_capture_has_nothing_to_do_without_an_environment(tmp_path: Path, context) -> None:
    assert capture.beside(context(tmp_path)) == Findings()
