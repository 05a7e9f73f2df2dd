from typing import Any

import pytest

from repro.errors import AlteredError
from repro.evidence.model import Gap
from repro.replay import packages


def test_pins_of_a_lock() -> None:
    lock = "Torch==2.13.0+cpu \\\n    --hash=sha256:00\nfoo_bar[x]==1.0 ; python_version > '3'\n# note==1\n"
    assert {"torch": "2.13.0+cpu", "foo-bar": "1.0"} == packages.pins(lock)


def test_names_imported_by_sources() -> None:
    sources = [b"import a.b, c as d\nfrom e.f import g\nfrom . import h\n", b"def broken(", b"\0", b"if 1:\n  import i"]
    assert {"a", "c", "e", "i"} == packages.imported_names(sources)


def test_locked_distributions_are_not_lacking(make: Any) -> None:
    record = make.record(packages=(make.package("a"), make.package("b", "2"), make.package("b", "1", location="/old")))
    assert () == packages.lacking(record, {"a": "1.0", "b": "2"}, frozenset({"a", "b"}))


def test_one_imported_by_name_makes_a_replay_impossible_and_says_why(make: Any) -> None:
    gap = Gap(topic="lock", subject="my-lib", reason="not locked: 1.0 is installed from a file")
    record = make.record(packages=(make.package("my-lib", origin="direct"),), gaps=(gap,))
    [found] = packages.lacking(record, {}, frozenset({"My_Lib"}))
    assert ("impossible", "missing") == (found.effect, found.state)
    assert "not locked: 1.0 is installed from a file" in found.sentence
    assert found.hint is not None
    assert "--executor host" in found.hint


def test_one_not_imported_by_name_is_left_out_and_said(make: Any) -> None:
    record = make.record(packages=(make.package("plugin", origin="direct"),))
    [found] = packages.lacking(record, {}, frozenset())
    assert "bitwise at risk" == found.effect
    assert "origin: direct" in found.sentence


def test_another_version_in_the_lock_is_lacking(make: Any) -> None:
    record = make.record(packages=(make.package("a", "1.0"),))
    assert ["package a"] == [c.name for c in packages.lacking(record, {"a": "2.0"}, frozenset())]


def test_the_recorder_is_not_part_of_the_run(make: Any) -> None:
    record = make.record(packages=(make.package("repro", origin="editable", direct_url="file:///src/repro"),))
    assert ["none"] == [c.effect for c in packages.lacking(record, {}, frozenset({"repro"}))]


def test_an_editable_install_of_the_tree_is_put_on_the_path(make: Any) -> None:
    inside = make.package("mine", origin="editable", direct_url="file:///home/me/project/my%20lib")
    record = make.record(packages=(inside,), code_files=(make.code("my lib/src/mine/__init__.py"),))
    [found] = packages.lacking(record, {}, frozenset({"mine"}))
    assert ("bitwise at risk", "source on the path") == (found.effect, found.here)
    assert ("my lib/src", "my lib") == packages.source_paths(record)


def test_the_tree_itself_may_be_the_editable_install(make: Any) -> None:
    record = make.record(packages=(make.package("p", origin="editable", direct_url="file:///home/me/project"),))
    assert (".",) == packages.source_paths(record)


def test_an_editable_install_elsewhere_counts_if_the_run_read_its_code(make: Any) -> None:
    package = make.package("lib", origin="editable", direct_url="file:///home/me/lib")
    read = make.file("/home/me/lib/lib/x.py", category="code")
    assert ["none"] == [c.effect for c in packages.lacking(make.record(packages=(package,)), {}, frozenset())]
    record = make.record(packages=(package,), data_files=(read,))
    assert ["impossible"] == [c.effect for c in packages.lacking(record, {}, frozenset())]
    assert () == packages.source_paths(record)


def test_where_an_editable_install_lies(make: Any) -> None:
    assert None is packages.source_directory(make.package("a"))
    assert "/env/lib" == packages.source_directory(make.package("a", origin="editable"))
    assert None is packages.source_directory(make.package("a", origin="editable", direct_url="https://x/y"))


def test_recorded_sources_outside_the_root_are_put_on_the_path(make: Any) -> None:
    package = make.package("lib", origin="editable", direct_url="file:///home/me/lib")
    listed = make.fact("code", "source_paths", '["/home/me/lib/src","/home/me/project/own","/opt/not-captured"]')
    code = (make.code("/home/me/lib/src/lib.py", state="editable"), make.code("train.py"))
    record = make.record(packages=(package,), facts=(listed,), code_files=code)
    assert ("../lib/src", "own") == packages.source_paths(record)
    assert ["source on the path"] == [c.here for c in packages.lacking(record, {}, frozenset({"lib"}))]


@pytest.mark.parametrize("text", ["{}", "[1]", '["relative"]', "["])
def test_a_list_of_sources_that_this_recorder_never_wrote_is_refused(make: Any, text: str) -> None:
    with pytest.raises(AlteredError):
        packages.source_paths(make.record(facts=(make.fact("code", "source_paths", text),)))
