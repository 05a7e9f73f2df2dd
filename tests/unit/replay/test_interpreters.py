import os
import sys
from pathlib import Path

import pytest

from repro.replay import interpreters
from repro.replay.interpreters import Interpreter, choose, probe

VERSION = "{}.{}.{}".format(*sys.version_info[:3])


def _python(version: str, implementation: str = "cpython") -> Interpreter:
    return Interpreter(
        executable=Path(f"/p/{version}"), version=version, implementation=implementation, build="", base_prefix="/p"
    )


def test_an_interpreter_says_what_it_is() -> None:
    found = probe(Path(sys.executable))
    assert found is not None
    assert (VERSION, "cpython", sys.version, sys.base_prefix) == (
        found.version,
        found.implementation,
        found.build,
        found.base_prefix,
    )


def test_what_is_no_interpreter_is_none(tmp_path: Path) -> None:
    silent = tmp_path / "python3.11"
    silent.write_text("#!/bin/sh\necho hello\n")
    silent.chmod(0o755)
    assert [None] * 3 == [probe(silent), probe(tmp_path / "absent"), probe(Path("/bin/false"))]


def test_the_exact_version_is_preferred_then_the_newest_of_the_same_minor_version() -> None:
    found = [_python("3.11.2"), _python("3.11.10"), _python("3.12.1"), _python("3.11.7", "pypy")]
    picks = [choose(found, version, "CPython") for version in ("3.11.2", "3.11.7", "3.10.1")]
    assert ["3.11.2", "3.11.10", None] == [pick and pick.version for pick in picks]


def test_the_recorded_interpreter_is_found_first() -> None:
    found = interpreters.discover(VERSION, sys.base_prefix)
    assert VERSION == found[0].version
    assert os.path.realpath(sys.executable) == os.path.realpath(found[0].executable)
    assert len(found) == len({os.path.realpath(i.executable) for i in found})


def test_interpreters_that_pyenv_and_uv_keep_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(tmp_path / "uv"))
    monkeypatch.setattr(interpreters.sys, "base_prefix", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    places = (f"versions/{VERSION}/bin", f"uv/cpython-{VERSION}-linux/bin")
    for place in places:
        program = tmp_path / place / name
        program.parent.mkdir(parents=True)
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        program.chmod(0o755)
    found = [str(i.executable) for i in interpreters.discover(VERSION, None)]
    assert [str(tmp_path / place / name) for place in places] == found[:2]


def test_no_interpreter_of_that_version() -> None:
    assert () == interpreters.discover("3.3.1", "/nonexistent")
