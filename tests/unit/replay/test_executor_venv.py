import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from repro.errors import ExecutionError
from repro.evidence.model import Gap
from repro.evidence.store import Store
from repro.replay import workspace
from repro.replay.executors import venv
from repro.replay.interpreters import discover
from repro.replay.machine import Machine

VERSION = "{}.{}.{}".format(*sys.version_info[:3])


def _record(
    make: Any, root: Path, lock: str | None, *, version: str = VERSION, prefix: str = "/env", **more: Any
) -> Any:
    known = {"python_version": version, "executable": f"{prefix}/bin/python", "prefix": prefix, "build": sys.version}
    known |= {"base_prefix": more.pop("base_prefix", "/usr"), **({"lock": lock} if lock else {})}
    facts = tuple(make.fact("environment", name, value) for name, value in known.items())
    return make.record(run={"root": str(root)}, facts=facts, **more)


@pytest.fixture(scope="module")
def here() -> Machine:
    return Machine(interpreters=discover(VERSION, sys.base_prefix))


def test_the_same_python_and_a_lock_need_nothing_said(make: Any, tmp_path: Path, here: Machine) -> None:
    found = venv.conditions(make.plan(_record(make, tmp_path, "sha256:00")), here)
    assert ["python", "python build", "lock"] == [c.name for c in found]
    assert {"same"} == {c.state for c in found}


def test_another_patch_release_puts_the_bits_at_risk(make: Any, tmp_path: Path, here: Machine) -> None:
    minor = ".".join(VERSION.split(".")[:2])
    found = venv.conditions(make.plan(_record(make, tmp_path, "sha256:00", version=f"{minor}.999")), here)
    assert ("python", "bitwise at risk", "differs") == (found[0].name, found[0].effect, found[0].state)


def test_another_build_puts_the_bits_at_risk(make: Any, tmp_path: Path, here: Machine) -> None:
    other = Machine(interpreters=(replace(here.interpreters[0], build="3.11 by somebody else"),))
    found = venv.conditions(make.plan(_record(make, tmp_path, "sha256:00")), other)
    assert ("python build", "bitwise at risk") == (found[1].name, found[1].effect)


def test_no_such_python_names_what_is_needed(make: Any, tmp_path: Path) -> None:
    plan = make.plan(_record(make, tmp_path, "sha256:00", version="3.3.1"))
    stop = venv.conditions(plan, Machine())[0]
    assert "impossible" == stop.effect
    assert "it needs cpython 3.3.1, and this machine has no Python 3.3" in stop.sentence
    assert stop.hint is not None
    assert "--python" in stop.hint


def test_no_lock_gives_the_reason_and_the_way_out(make: Any, tmp_path: Path, here: Machine) -> None:
    gap = Gap(topic="lock", subject="index", reason="not locked: the index did not answer")
    stop = venv.conditions(make.plan(_record(make, tmp_path, None, gaps=(gap,))), here)[-1]
    assert "impossible" == stop.effect
    assert "the run has no lock, as not locked: the index did not answer" in stop.sentence
    assert stop.hint is not None
    assert "--executor host" in stop.hint


def test_a_site_with_the_locked_environment(
    make: Any, tmp_path: Path, store: Store, here: Machine, wheel: Any, offline: Path
) -> None:
    lock = store.objects.put(wheel()[1].encode())
    root = tmp_path / "p"
    mine = make.package("mine", origin="editable", direct_url=root.as_uri())
    plan = make.plan(_record(make, root, lock, packages=(mine,)), locked={"tiny": "1.0"})
    place = workspace.build(plan, store.objects, progress=print)
    site = venv.prepare(plan, place, store, here, print)
    prefix = site.environment["VIRTUAL_ENV"]
    assert isinstance(prefix, str)
    assert (f"{prefix}/bin",) == site.path
    assert (str(place.root),) == site.python_path
    assert [("/env", prefix)] == [(move.recorded, move.here) for move in site.moves]
    assert None is site.environment["PYTHONHOME"]
    facts = {(fact.topic, fact.name): fact.value for fact in site.facts}
    assert ("built", lock) == (facts["replay", "environment"], facts["environment", "lock"])
    assert ("replay", "built_from_source") not in facts
    site.close()
    lines: list[str] = []
    again = venv.prepare(plan, place, store, here, lines.append)
    assert [f"using the environment that was built before: {prefix}"] == lines
    again.close()
    place.remove()


def test_of_the_systems_python_only_the_programs_are_mapped(
    make: Any, tmp_path: Path, store: Store, here: Machine
) -> None:
    lock = store.objects.put(b"")
    plan = make.plan(_record(make, tmp_path / "p", lock, prefix="/usr", base_prefix="/usr"))
    place = workspace.build(plan, store.objects, progress=print)
    site = venv.prepare(plan, place, store, here, print)
    moves = {move.recorded: move.here for move in site.moves}
    assert "/usr" not in moves
    assert f"{site.path[0]}/python" == moves["/usr/bin/python"]
    site.close()
    place.remove()


def test_a_python_that_went_away_meanwhile(make: Any, tmp_path: Path, store: Store) -> None:
    plan = make.plan(_record(make, tmp_path / "p", store.objects.put(b"")))
    place = workspace.build(plan, store.objects, progress=print)
    with pytest.raises(ExecutionError, match="there is no Python"):
        venv.prepare(plan, place, store, Machine(), print)
    place.remove()


def test_a_command_without_python_is_run_with_what_is_here(make: Any, store: Store) -> None:
    plan = make.plan(make.record())
    [found] = venv.conditions(plan, Machine())
    assert "bitwise at risk" == found.effect
    site = venv.prepare(plan, None, store, Machine(), print)  # type: ignore[arg-type]
    assert "No environment was rebuilt." in site.isolation
    assert os.pathsep not in "".join(site.path)
