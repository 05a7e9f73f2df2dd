"""Any command, any place: another environment, a shell, no git, no Python at all."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of a virtual environment that has never heard of repro."""
    folder = tmp_path_factory.mktemp("stranger") / "env"
    venv.create(folder, with_pip=False)
    return folder / "bin" / "python"


def test_another_virtual_environment(repro, record, stranger: Path, tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text("import random\nopen('numbers.txt', 'w').write(str(random.random()))\n")
    recorded = record([stranger, "job.py"], cwd=tmp_path)
    assert recorded.exit_status == 0, recorded.err
    record_ = repro("show", "@last", "--json", cwd=tmp_path).answer
    assert ["main"] == [p["process_key"] for p in record_["processes"]]
    assert str(stranger.parent.parent) in {f["value"] for f in record_["facts"]}
    assert "numbers.txt" in {f["path"] for f in record_["data_files"] if f["role"] == "output"}
    assert [] == record_["packages"], "those of repro's own environment were taken for the command's"
    assert (
        subprocess.run([stranger, "-c", "import repro"], capture_output=True, cwd=tmp_path, check=False).returncode != 0
    )


def test_a_shell_that_starts_python(repro, record, tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text("print(open('in.txt').read())\n")
    (tmp_path / "in.txt").write_text("hello")
    recorded = record(["bash", "-c", f"'{sys.executable}' job.py && echo after"], cwd=tmp_path)
    assert "hello\nafter\n" == recorded.out
    record_ = repro("show", "@last", "--json", cwd=tmp_path).answer
    assert "in.txt" in {f["path"] for f in record_["data_files"] if f["role"] == "input"}


def test_a_command_that_is_not_python(repro, record, tmp_path: Path) -> None:
    recorded = record([shutil.which("echo") or "/bin/echo", "hello"], cwd=tmp_path)
    assert ("hello\n", 0) == (recorded.out, recorded.exit_status)
    gaps = repro("show", "@last", "--json", cwd=tmp_path).answer["gaps"]
    assert "agent" in {gap["topic"] for gap in gaps}
    strict = record(["echo", "hello"], cwd=tmp_path, options=["--strict"])
    assert strict.exit_status == 125


@pytest.mark.parametrize("flag", ["-I", "-S", "-E"])
def test_a_python_that_keeps_the_agent_out(repro, record, tmp_path: Path, flag: str) -> None:
    (tmp_path / "job.py").write_text("print('hello')")
    assert record([sys.executable, flag, "job.py"], cwd=tmp_path).exit_status == 0
    gaps = repro("show", "@last", "--json", cwd=tmp_path).answer["gaps"]
    assert "agent" in {gap["topic"] for gap in gaps}


def test_a_command_that_does_not_exist(repro, record, repro_home: Path, tmp_path: Path) -> None:
    recorded = record(["no-such-command-here"], cwd=tmp_path)
    assert recorded.exit_status == 2
    assert "no-such-command-here" in recorded.err
    assert "no runs" in repro("runs", cwd=tmp_path).out


def test_options_after_the_command_are_its_own(record, tmp_path: Path) -> None:
    recorded = record(["echo", "--help", "--json", "--", "-n"], cwd=tmp_path)
    assert "--help --json -- -n\n" == recorded.out


def test_standard_input_and_bytes_pass_through(repro_home: Path, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096
    done = subprocess.run(
        [sys.executable, "-m", "repro", "record", "--lock-timeout", "0", "--", "cat"],
        input=content, capture_output=True, cwd=tmp_path, check=True,
    )  # fmt: skip
    assert content == done.stdout


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full", ">/dev/full 2>/dev/full"])
def test_standard_streams_that_are_closed_or_full_cost_no_run(
    closed: str, repro, repro_home: Path, tmp_path: Path
) -> None:
    (tmp_path / "job.py").write_text("open('out.txt', 'w').write('x')\nraise SystemExit(3)\n")
    command = f"exec '{sys.executable}' -m repro record --lock-timeout 0 -- '{sys.executable}' job.py {closed}"
    assert 3 == subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, check=False).returncode
    recorded = repro("show", "@last", "--json", cwd=tmp_path).answer
    assert ["out.txt"] == [file["path"] for file in recorded["data_files"] if file["role"] == "output"]


def test_a_reader_that_goes_away_costs_no_run(repro, repro_home: Path, tmp_path: Path) -> None:
    command = f"('{sys.executable}' -m repro record -- true; echo $? > status) 2>&1 | true"
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True)
    assert "0\n" == (tmp_path / "status").read_text()
    assert "completed" == repro("show", "@last", "--json", cwd=tmp_path).answer["run"]["status"]
