import json
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest

from repro.errors import AlteredError, ExecutionError, InconclusiveError
from repro.evidence.store import Store
from repro.replay import data, workspace


def _stored(make: Any, store: Store, path: str, content: bytes, **more: Any) -> Any:
    store.objects.put(content)
    return make.code(path, content, **more)


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))


def _left(tmp_path: Path) -> list[str]:
    return os.listdir(tmp_path / "tmp")


def test_a_tree_is_restored_byte_for_byte_with_modes_and_links(make: Any, store: Store, tmp_path: Path) -> None:
    tree = (
        _stored(make, store, "run.sh", b"#!/bin/sh\n", mode=0o755),
        _stored(make, store, "a/b\\xff\\\\n", b"\0\xff"),
        _stored(make, store, "a/new\nline", b"", mode=0o4600),
        _stored(make, store, "link", b"a/\xfe", kind="symlink", mode=0o777),
    )
    workspace.restore(tree, store.objects, tmp_path / "out")
    out = os.fsencode(tmp_path / "out")
    assert b"\0\xff" == Path(os.fsdecode(out + b"/a/b\xff\\n")).read_bytes()
    assert 0o755 == stat.S_IMODE(os.stat(out + b"/run.sh").st_mode)
    assert 0o600 == stat.S_IMODE(os.stat(out + b"/a/new\nline").st_mode)
    assert b"a/\xfe" == os.readlink(out + b"/link")


@pytest.mark.parametrize("path", ["../x", "/x", "a/../../x", "a//x", "./x", "", ".", "a/", "nul\0"])
def test_a_path_that_would_leave_the_tree_is_refused(make: Any, store: Store, tmp_path: Path, path: str) -> None:
    tree = (_stored(make, store, path, b"evil"),)
    with pytest.raises(AlteredError, match="does not stay inside it"):
        workspace.restore(tree, store.objects, tmp_path / "in" / "out")
    assert [] == [p for p in tmp_path.rglob("*") if p.is_file() and p.name == "x"]


def test_nothing_is_written_through_a_link_of_the_tree(make: Any, store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    link = _stored(make, store, "d", os.fsencode(outside), kind="symlink")
    for name, kind in (("d/x", "file"), ("d/x", "symlink"), ("d/x/y", "symlink")):
        target = tmp_path / f"out-{kind}-{len(name)}"
        with pytest.raises(AlteredError):
            workspace.restore((link, _stored(make, store, name, b"evil", kind=kind)), store.objects, target)
    assert [] == os.listdir(outside)


def test_a_file_in_the_way_of_a_directory_is_an_alteration(make: Any, store: Store, tmp_path: Path) -> None:
    tree = (_stored(make, store, "a", b"1"), _stored(make, store, "a/b", b"2"))
    with pytest.raises(AlteredError, match="in the way"):
        workspace.restore(tree, store.objects, tmp_path / "out")


def test_a_missing_object_is_missing_evidence(make: Any, store: Store, tmp_path: Path) -> None:
    with pytest.raises(InconclusiveError):
        workspace.restore((make.code("a", b"never stored"),), store.objects, tmp_path / "out")


def test_the_scratch_directory_mirrors_the_recorded_paths(make: Any, store: Store, tmp_path: Path) -> None:
    root = tmp_path / "home" / "project"
    (root / "data").mkdir(parents=True)
    (root / "data" / "in.bin").write_bytes(b"inside")
    sets = tmp_path / "home" / "sets"
    sets.mkdir()
    (sets / "x.bin").write_bytes(b"outside")
    store.objects.put(b"generated")
    record = make.record(
        run={"root": str(root), "working_directory": "src", "argv": ("t", f"--out={tmp_path}/runs")},
        code_files=(
            _stored(make, store, "train.py", b"pass"),
            _stored(make, store, "link", b"../sets", kind="symlink"),
        ),
        data_files=(
            make.file("train.py", b"pass", category="code"),
            make.file("data/in.bin", b"inside"),
            make.file("gen.py", b"generated", category="code"),
            make.file("link/x.bin", b"outside"),
            make.file(f"{tmp_path}/runs/m.pt", role="output"),
            make.file("results/r.json", role="output"),
        ),
    )
    (root / "link").symlink_to("../sets")
    inspection = data.inspect(record, store.objects, progress=print)
    assert () == inspection.mismatches
    place = workspace.build(make.plan(record, inspection), store.objects, progress=print)
    try:
        assert place.root == place.scratch / str(root).lstrip("/")
        assert place.root / "src" == place.working_directory
        assert place.working_directory.is_dir()
        assert b"pass" == (place.root / "train.py").read_bytes()
        copied = place.root / "data" / "in.bin"
        assert (b"inside", 0o444) == (copied.read_bytes(), stat.S_IMODE(copied.stat().st_mode))
        assert b"generated" == (place.root / "gen.py").read_bytes()
        assert b"outside" == (place.root / "link" / "x.bin").read_bytes()
        assert (place.root / "results").is_dir()
        assert [] == os.listdir(place.root / "results")
        assert (place.scratch / str(tmp_path).lstrip("/") / "runs").is_dir()
        moved = {move.recorded: move.here for move in place.moves}
        assert {str(root): str(place.root), f"{tmp_path}/runs": f"{place.scratch}{tmp_path}/runs"} == moved
        assert 0o600 == stat.S_IMODE(place.entropy.stat().st_mode)
        assert {"seeds": {}, "settings": {}} == json.loads(place.entropy.read_text())
        assert not place.entropy.is_relative_to(place.root)
    finally:
        place.remove()
    assert [] == _left(tmp_path)
    assert b"outside" == (sets / "x.bin").read_bytes()


def test_an_input_outside_the_tree_is_found_by_a_relative_path(make: Any, store: Store, tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"x")
    root = tmp_path / "project"
    root.mkdir()
    record = make.record(run={"root": str(root)}, data_files=(make.file(str(tmp_path / "x.bin")),))
    inspection = data.inspect(record, store.objects, progress=print)
    place = workspace.build(make.plan(record, inspection), store.objects, progress=print)
    assert b"x" == (place.root / "../x.bin").read_bytes()
    place.remove()
    assert (tmp_path / "x.bin").exists()


def test_a_link_of_the_tree_to_data_elsewhere_is_left_to_lead_there(make: Any, store: Store, tmp_path: Path) -> None:
    (tmp_path / "big.bin").write_bytes(b"x")
    link = _stored(make, store, "d.bin", os.fsencode(tmp_path / "big.bin"), kind="symlink")
    root = tmp_path / "project"
    root.mkdir()
    (root / "d.bin").symlink_to(tmp_path / "big.bin")
    record = make.record(run={"root": str(root)}, code_files=(link,), data_files=(make.file("d.bin"),))
    plan = make.plan(record, data.inspect(record, store.objects, progress=print))
    place = workspace.build(plan, store.objects, progress=print)
    assert b"x" == (place.root / "d.bin").read_bytes()
    place.remove()
    (tmp_path / "big.bin").rename(tmp_path / "moved.bin")
    with pytest.raises(InconclusiveError, match=r"d\.bin is reached through a link"):
        workspace.build(plan, store.objects, progress=print)
    assert [] == _left(tmp_path)


def test_a_directory_that_the_tree_holds_as_a_file_is_not_made(make: Any, store: Store, tmp_path: Path) -> None:
    record = make.record(
        code_files=(_stored(make, store, "out", b""),), data_files=(make.file("out/x/y", role="output"),)
    )
    place = workspace.build(make.plan(record), store.objects, progress=print)
    assert (place.root / "out").is_file()
    place.remove()


def test_directories_that_cannot_be_written_to_are_removed_too(make: Any, store: Store, tmp_path: Path) -> None:
    place = workspace.build(make.plan(make.record()), store.objects, progress=print)
    (place.root / "locked" / "deep").mkdir(parents=True)
    (place.root / "locked" / "deep" / "f").write_text("")
    (place.root / "locked" / "deep").chmod(0o500)
    (place.root / "locked").chmod(0o500)
    place.remove()
    assert [] == _left(tmp_path)


def test_a_full_disk_is_said_before_anything_is_written(
    make: Any, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = make.record(code_files=(make.code("a", size_bytes=shutil.disk_usage(tmp_path).free),))
    with pytest.raises(ExecutionError, match="MB are free") as caught:
        workspace.build(make.plan(record), store.objects, progress=print)
    assert caught.value.hint is not None
    assert "TMPDIR" in caught.value.hint
    assert [] == _left(tmp_path)


def test_a_temporary_directory_that_is_not_there(make: Any, store: Store, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(ExecutionError, match="cannot build the replay's directory"):
        workspace.build(make.plan(make.record()), store.objects, progress=print)


def test_a_record_whose_root_is_not_absolute_is_refused(make: Any, store: Store, tmp_path: Path) -> None:
    with pytest.raises(AlteredError, match="where an absolute path belongs"):
        workspace.build(make.plan(make.record(run={"root": "tmp/x"})), store.objects, progress=print)
    assert [] == _left(tmp_path)


def test_a_working_directory_that_climbs_stays_in_the_scratch_directory(
    make: Any, store: Store, tmp_path: Path
) -> None:
    record = make.record(run={"root": "/a", "working_directory": "../../../../etc"})
    place = workspace.build(make.plan(record), store.objects, progress=print)
    assert place.working_directory.is_relative_to(place.scratch)
    place.remove()


def test_a_file_larger_than_one_call_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = os.urandom(300_000)
    (tmp_path / "a").write_bytes(content)
    workspace._copy(tmp_path / "a", tmp_path / "b")
    assert content == (tmp_path / "b").read_bytes()

    def unsupported(*arguments: object) -> int:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", unsupported)
    workspace._copy(tmp_path / "a", tmp_path / "c")
    assert content == (tmp_path / "c").read_bytes()


def test_insisting_removes_files_and_directories_and_never_fails(tmp_path: Path) -> None:
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "f").write_text("")
    (tmp_path / "link").symlink_to("d")
    for name in ("link", "d/f", "d", "gone"):
        workspace._insist(os.unlink, str(tmp_path / name), None)
    assert [] == os.listdir(tmp_path / "tmp")
    assert ["tmp"] == os.listdir(tmp_path)


def test_source_trees_outside_the_root_lie_at_their_mirrored_place(make: Any, store: Store, tmp_path: Path) -> None:
    record = make.record(
        facts=(make.fact("code", "source_paths", '["/home/me/lib/src"]'),),
        code_files=(
            _stored(make, store, "/home/me/lib/src/lib.py", b"VALUE = 1", state="editable"),
            _stored(make, store, "train.py", b"import lib"),
        ),
    )
    plan = make.plan(record)
    place = workspace.build(plan, store.objects, progress=print)
    lib = place.scratch / "home" / "me" / "lib" / "src"
    assert b"VALUE = 1" == (lib / "lib.py").read_bytes()
    assert (str(lib),) == place.source_paths(plan)
    assert (f"{lib}/lib.py", "train.py") == place.code_paths(plan)
    assert {"/home/me/project", "/home/me/lib/src"} == {move.recorded for move in place.moves}
    assert ["/home"] == [move.recorded for move in place.mirrors]
    place.remove()


@pytest.mark.parametrize("path", ["/../x", "//x", "/", "/a/../../x"])
def test_a_source_tree_cannot_leave_its_place(make: Any, store: Store, tmp_path: Path, path: str) -> None:
    with pytest.raises(AlteredError, match="does not stay inside it"):
        workspace.restore_all((_stored(make, store, path, b""),), store.objects, tmp_path / "in", tmp_path / "out")
