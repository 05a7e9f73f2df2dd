import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from repro.replay.executors import host
from repro.replay.machine import Machine

VERSION = "{}.{}.{}".format(*sys.version_info[:3])


@pytest.fixture
def recorded(tmp_path: Path) -> str:
    """An environment with one distribution in it, without pip."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True)
    info = next((tmp_path / "env" / "lib").iterdir()) / "site-packages" / "Some_Thing-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Some_Thing\nVersion: 1.0\n")
    return str(tmp_path / "env" / "bin" / "python")


def _plan(make: Any, executable: str, *packages: Any, version: str = VERSION) -> Any:
    known = {"python_version": version, "executable": executable, "prefix": str(Path(executable).parent.parent)}
    return make.plan(
        make.record(
            facts=tuple(make.fact("environment", name, value) for name, value in known.items()), packages=packages
        )
    )


def test_the_recorded_environment_still_stands(make: Any, recorded: str) -> None:
    plan = _plan(make, recorded, make.package("some-thing"), make.package("some-thing", "0.9", location="/later"))
    assert ["none", "none"] == [c.effect for c in host.conditions(plan, Machine())]
    site = host.prepare(plan, None, None, Machine(), print)  # type: ignore[arg-type]
    prefix = os.path.dirname(os.path.dirname(recorded))
    assert (os.path.dirname(recorded),) == site.path
    assert [(prefix, prefix)] == [(move.recorded, move.here) for move in site.moves]
    assert "nothing was rebuilt" in site.isolation[0]


def test_packages_that_differ_are_named(make: Any, recorded: str) -> None:
    many = [make.package(f"p{i}") for i in range(5)]
    _, stop = host.conditions(_plan(make, recorded, make.package("some-thing", "2.0"), *many), Machine())
    assert "impossible" == stop.effect
    assert "p0: 1.0 → absent" in stop.sentence
    assert "and 1 more" in stop.sentence
    [_, stop] = host.conditions(_plan(make, recorded, make.package("some-thing", "2.0")), Machine())
    assert "some-thing: 2.0 → 1.0" in stop.sentence
    [_, stop] = host.conditions(_plan(make, recorded), Machine())
    assert "some-thing: absent → 1.0" in stop.sentence


def test_an_interpreter_that_is_gone(make: Any) -> None:
    [stop] = host.conditions(_plan(make, "/nonexistent/python"), Machine())
    assert ("impossible", "missing") == (stop.effect, stop.state)
    assert stop.hint is not None
    assert "--executor venv" in stop.hint


def test_an_interpreter_that_was_upgraded(make: Any, recorded: str) -> None:
    [stop] = host.conditions(_plan(make, recorded, version="3.11.0"), Machine())
    assert f"is Python {VERSION} now; it was 3.11.0" in stop.sentence


def test_a_command_without_python(make: Any) -> None:
    [found] = host.conditions(make.plan(make.record()), Machine())
    assert "bitwise at risk" == found.effect
