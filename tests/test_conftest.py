"""The suite's own rules hold: a required engine may not be skipped, and no test sees the user's home."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parent / "conftest.py"


def run_suite(folder: Path, test: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text(CONFTEST.read_text())
    (folder / "test_it.py").write_text(test)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    strace: needs strace\n")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:cov", str(folder)],
        env={**os.environ, **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


SKIPS = "import pytest\n\ndef test_it():\n    pytest.skip('chromium is not installed')\n"


def test_a_skip_is_a_skip_where_nothing_is_required(tmp_path: Path) -> None:
    finished = run_suite(tmp_path, SKIPS, REPRO_REQUIRE="")
    assert (0, True) == (finished.returncode, "1 skipped" in finished.stdout), finished.stdout


def test_a_skip_for_a_required_engine_fails(tmp_path: Path) -> None:
    finished = run_suite(tmp_path, SKIPS, REPRO_REQUIRE="torch, chromium")
    assert (1, True) == (finished.returncode, "REPRO_REQUIRE names 'chromium'" in finished.stdout), finished.stdout


def test_a_skip_for_another_reason_stays_a_skip(tmp_path: Path) -> None:
    finished = run_suite(tmp_path, SKIPS, REPRO_REQUIRE="torch")
    assert (0, True) == (finished.returncode, "1 skipped" in finished.stdout), finished.stdout


@pytest.mark.parametrize(("required", "status"), [("", 0), ("strace", 1)])
def test_a_marked_test_needs_its_engine(tmp_path: Path, required: str, status: int) -> None:
    marked = "import pytest\n\n@pytest.mark.strace\ndef test_it():\n    pass\n"
    finished = run_suite(tmp_path, marked, REPRO_REQUIRE=required, PATH=str(tmp_path))
    assert status == finished.returncode, finished.stdout


def test_no_test_sees_the_home_of_the_user() -> None:
    import pwd

    real = pwd.getpwuid(os.getuid()).pw_dir
    assert real != os.environ["HOME"]
    assert not os.environ["REPRO_HOME"].startswith(real + "/")
    assert Path.home() == Path(os.environ["HOME"])
