"""A replay in an environment rebuilt from the lock; and what happens where it cannot be rebuilt."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

pytestmark = pytest.mark.index

JOB = """
import random, sys, iniconfig, importlib.metadata
with open("out.txt", "w") as file:
    file.write(f"{random.random()} {importlib.metadata.version('iniconfig')}")
print(sys.prefix)
"""
NO_INDEX = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0", "PIP_TIMEOUT": "2"}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a virtual environment with one distribution from the index."""
    folder = tmp_path_factory.mktemp("training") / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    pip = [sys.executable, "-m", "pip", "--python", folder, "install", "-q", "--no-deps", "iniconfig==2.0.0"]
    subprocess.run(pip, check=True)
    return folder


@pytest.fixture
def recorded(repro, environment: Path, tmp_path: Path) -> Path:
    """Return the folder of a run that was recorded with its lock."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "job.py").write_text(JOB)
    ran = repro("record", "--", environment / "bin" / "python", "job.py", cwd=folder)
    assert ran.exit_status == 0, ran.err
    gaps = repro("show", "@last", "--json", cwd=folder).answer["gaps"]
    assert [] == [gap for gap in gaps if not gap["subject"].startswith("container image")]  # where the tests run in one
    return folder


def _replay(repro: Callable, folder: Path, *options: str, variables: Mapping[str, str] | None = None):
    return repro("replay", "@last", *options, cwd=folder, variables=variables)


def test_the_environment_is_rebuilt_from_the_lock(repro, recorded: Path, environment: Path) -> None:
    replayed = _replay(repro, recorded, "--json")
    assert replayed.exit_status == 0, replayed.err
    assert "MATCHED-EXACTLY" == replayed.answer["verdict"]["word"]
    assert str(environment) not in replayed.err, "the replay printed the prefix of the recorded environment"
    again = repro("show", "@last", "--json", cwd=recorded).answer
    assert [("iniconfig", "2.0.0")] == [(p["name"], p["version"]) for p in again["packages"]]


def test_an_index_out_of_reach_is_an_error_and_no_silent_pass(repro, recorded: Path, tmp_path: Path) -> None:
    cache = {"PIP_CACHE_DIR": str(tmp_path / "empty"), "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": "/dev/null"}
    refused = _replay(repro, recorded, variables=NO_INDEX | cache)
    assert refused.exit_status == 6, refused.err
    assert "iniconfig" in refused.err
    assert "hint:" in refused.err
    assert "127.0.0.1" not in refused.err, "an index may carry credentials in its address"
    assert 1 == len(repro("runs", "--json", cwd=recorded).answer)


def test_a_record_without_an_index_has_a_gap_and_replays_only_on_this_host(
    repro, environment: Path, tmp_path: Path
) -> None:
    (tmp_path / "job.py").write_text(JOB)
    nothing = NO_INDEX | {"PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": "/dev/null", "PIP_CACHE_DIR": str(tmp_path / "c")}
    ran = repro("record", "--", environment / "bin" / "python", "job.py", cwd=tmp_path, variables=nothing)
    assert ran.exit_status == 0, ran.err
    gaps = repro("show", "@last", "--json", cwd=tmp_path).answer["gaps"]
    assert "lock" in {gap["topic"] for gap in gaps}
    refused = _replay(repro, tmp_path)
    assert (5, True) == (refused.exit_status, "--executor host" in refused.err), refused.err
    assert 0 == _replay(repro, tmp_path, "--executor", "host").exit_status


def test_other_packages_on_this_host_are_named(repro, environment: Path, tmp_path: Path) -> None:
    copy = tmp_path / "env"
    shutil.copytree(environment, copy, symlinks=True)
    (tmp_path / "job.py").write_text(JOB)
    assert (
        0 == repro("record", "--lock-timeout", "0", "--", copy / "bin" / "python", "job.py", cwd=tmp_path).exit_status
    )
    pip = [sys.executable, "-m", "pip", "--python", copy, "install", "-q", "--no-deps", "iniconfig==2.0.0"]
    subprocess.run([*pip[:-1], "iniconfig==1.1.1"], check=True)
    refused = _replay(repro, tmp_path, "--executor", "host")
    assert refused.exit_status in (5, 6), refused.err
    assert "iniconfig" in refused.err
    assert "1.1.1" in refused.err


OFFLINE = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": "/dev/null"}


def test_with_kept_wheels_no_index_is_needed(repro, environment: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "job.py").write_text(JOB)
    ran = repro("record", "--wheelhouse", "--", environment / "bin" / "python", "job.py", cwd=folder)
    assert ran.exit_status == 0, ran.err
    replayed = _replay(repro, folder, "--json", variables=NO_INDEX | OFFLINE)
    assert replayed.exit_status == 0, replayed.err
    assert "MATCHED-EXACTLY" == replayed.answer["verdict"]["word"]


def test_an_edited_library_is_named_and_comes_back_edited(repro, environment: Path, tmp_path: Path) -> None:
    copy, folder = tmp_path / "env", tmp_path / "work"
    shutil.copytree(environment, copy, symlinks=True)
    folder.mkdir()
    (folder / "job.py").write_text(JOB + "print(iniconfig.EDITED)\n")
    [module] = copy.rglob("iniconfig/__init__.py")
    module.write_text(module.read_text() + "\nEDITED = 'by hand'\n")
    ran = repro("record", "--", copy / "bin" / "python", "job.py", cwd=folder)
    assert ran.exit_status == 0, ran.err
    shown = repro("show", "@last", "--json", cwd=folder).answer
    facts = {fact["name"]: fact["value"] for fact in shown["facts"] if fact["topic"] == "environment"}
    assert ("1", "iniconfig") == (facts["packages_changed"], facts["wheels_repacked"])
    replayed = _replay(repro, folder, "--json")
    assert replayed.exit_status == 0, replayed.err
    assert "MATCHED-EXACTLY" == replayed.answer["verdict"]["word"]


def test_a_library_from_a_repository_that_is_gone_comes_back(repro, tmp_path: Path) -> None:
    source, prefix, folder = tmp_path / "mylib", tmp_path / "env", tmp_path / "work"
    (source / "mylib").mkdir(parents=True)
    (source / "mylib" / "__init__.py").write_text("VALUE = 3\n")
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "mylib"\nversion = "0.3"\n'
    )
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "first"]):
        subprocess.run(["git", *command], cwd=source, check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True)
    pip = [sys.executable, "-m", "pip", "--python", prefix, "install", "-q", "--no-deps"]
    subprocess.run([*pip, f"git+{source.as_uri()}"], check=True)
    shutil.rmtree(source)
    folder.mkdir()
    (folder / "job.py").write_text("import mylib\nopen('out.txt', 'w').write(str(mylib.VALUE))\n")
    ran = repro("record", "--", prefix / "bin" / "python", "job.py", cwd=folder)
    assert ran.exit_status == 0, ran.err
    shown = repro("show", "@last", "--json", cwd=folder).answer
    assert ("wheels_repacked", "mylib") in {(fact["name"], fact["value"]) for fact in shown["facts"]}
    assert [] == [gap for gap in shown["gaps"] if gap["topic"] == "lock"]
    replayed = _replay(repro, folder, "--json", variables=NO_INDEX | OFFLINE)
    assert replayed.exit_status == 0, replayed.err
    assert "MATCHED-EXACTLY" == replayed.answer["verdict"]["word"]
