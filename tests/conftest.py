"""What every test stands on: a home of its own, engines that are skipped or required, one Hypothesis profile.

A test that needs an engine carries its marker (`torch`, `docker`, `strace`, `netns`, `index`, `gpu`) or calls
`pytest.skip` with a reason that names it. On a user's machine it is skipped. Where `REPRO_REQUIRE` names the engine, as
`.ci/run` does, that skip is a failure:

    REPRO_REQUIRE=torch,index pytest
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job; what the tests start would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("here"), derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "here")


def _succeeds(*argv: str) -> bool:
    try:
        return subprocess.run(argv, capture_output=True, timeout=60, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _index_answers() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        return _succeeds(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", folder, "iniconfig")


def _namespaces_can_be_made() -> bool:
    return _succeeds("unshare", "--net", "ip", "link", "add", "repro0", "type", "veth", "peer", "name", "repro1")


def _gpu_answers() -> bool:
    return _succeeds(sys.executable, "-c", "import sys, torch; sys.exit(not torch.cuda.is_available())")


ENGINES: dict[str, tuple[Callable[[], bool], str]] = {
    "torch": (lambda: find_spec("torch") is not None, "torch: PyTorch is not installed"),
    "docker": (lambda: _succeeds("docker", "info"), "docker: no container engine answers"),
    "strace": (lambda: shutil.which("strace") is not None, "strace: not installed"),
    "netns": (_namespaces_can_be_made, "netns: network namespaces need root, and the command ip"),
    "index": (_index_answers, "index: no package index can be reached"),
    "gpu": (_gpu_answers, "gpu: PyTorch sees no CUDA device"),
}


@functools.cache
def _missing(engine: str) -> str | None:
    is_there, reason = ENGINES[engine]
    return None if is_there() else reason


def _required() -> tuple[str, ...]:
    return tuple(name.strip() for name in os.environ.get("REPRO_REQUIRE", "").split(",") if name.strip())


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose engine is missing."""
    for engine in ENGINES:
        if item.get_closest_marker(engine) and (reason := _missing(engine)):
            pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip for the lack of a required engine into a failure."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        for engine in _required():
            if re.search(rf"(?<!\w){re.escape(engine)}(?!\w)", reason, re.IGNORECASE):
                report.outcome = "failed"
                report.longrepr = f"REPRO_REQUIRE names {engine!r}, yet this test would be skipped: {reason}"
    return report


def _isolated_environment(home: Path, real_home: Path) -> dict[str, str]:
    """Return the environment of the whole session: nothing of the user's home is read or written."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("REPRO_", "GIT_", "XDG_")) or name == "REPRO_REQUIRE"
    }
    if (pyenv := real_home / ".pyenv").is_dir():
        (home / ".pyenv").symlink_to(pyenv)  # other interpreters are looked for there, and only read
    return kept | {
        "HOME": str(home),
        "REPRO_HOME": str(home / "repro"),
        "PIP_CACHE_DIR": str(ROOT / "build" / "cache" / "pip"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "A Tester",
        "GIT_AUTHOR_EMAIL": "tester@example.org",
        "GIT_COMMITTER_NAME": "A Tester",
        "GIT_COMMITTER_EMAIL": "tester@example.org",
    }


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = dict(os.environ)
    after = _isolated_environment(tmp_path_factory.mktemp("home"), Path(before.get("HOME", "/nonexistent")))
    os.environ.clear()
    os.environ.update(after)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def unmeasured_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let coverage not be measured in what a test records: the files that it writes would be part of the record.

    The variables are put aside under another name, for a `repro` that is a process of its own and is measured itself.
    """
    for name in [name for name in os.environ if name.startswith("COVERAGE_PROCESS")]:
        monkeypatch.setenv(f"HIDDEN_{name}", os.environ[name])
        monkeypatch.delenv(name)


@pytest.fixture
def repro_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty `$REPRO_HOME` for this test alone."""
    home = tmp_path / "repro-home"
    monkeypatch.setenv("REPRO_HOME", str(home))
    return home
