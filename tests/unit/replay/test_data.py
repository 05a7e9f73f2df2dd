import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from repro.evidence.model import FileChange
from repro.evidence.store import Store
from repro.record.statcache import StatCache
from repro.replay import data


def _at(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _record(make: Any, root: Path, *files: Any, **more: Any) -> Any:
    now = time.time()
    times = {"started_at": _at(now - 20), "ended_at": _at(now - 10)}
    return make.record(run={"root": str(root), **times, **more.pop("run", {})}, data_files=files, **more)


def _one(make: Any, tmp_path: Path, store: Store, file: Any) -> data.Mismatch:
    inspection = data.inspect(_record(make, tmp_path, file), store.objects, progress=print)
    [found] = inspection.mismatches
    assert () == inspection.inputs
    return found


def test_an_input_is_found_in_the_tree_the_object_store_or_at_its_place(
    make: Any, tmp_path: Path, store: Store
) -> None:
    (tmp_path / "d.bin").write_bytes(b"d")
    (tmp_path / "out.py").write_bytes(b"o")
    store.objects.put(b"generated")
    record = _record(
        make,
        tmp_path,
        make.file("t.csv", b"t"),
        make.file("gen.py", b"generated", category="code"),
        make.file("d.bin", b"d"),
        make.file(str(tmp_path / "out.py"), b"o", category="code"),
        make.file("x.pyc", b"?", category="code"),
        make.file("/etc/x", b"?", category="system"),
        make.file("gone", b"?", category="temporary"),
        code_files=(make.code("t.csv", b"t"),),
    )
    inspection = data.inspect(record, store.objects, progress=print)
    assert () == inspection.mismatches
    expected = [("t.csv", "tree"), ("gen.py", "object"), ("d.bin", "place"), (str(tmp_path / "out.py"), "place")]
    assert expected == [(item.path, item.source) for item in inspection.inputs]


def test_a_changed_input_is_named_with_the_time_since_when(make: Any, tmp_path: Path, store: Store) -> None:
    path = tmp_path / "d.npz"
    path.write_bytes(b"new")
    os.utime(path, (1795183380, 1795183380))
    record = make.record(run={"root": str(tmp_path)}, data_files=(make.file("d.npz", b"old"),))
    [found] = data.inspect(record, store.objects, progress=print).mismatches
    assert "d.npz changed on 2026-11-20 14:03 UTC, after it was recorded" == found.sentence
    assert (make.digest(b"old"), make.digest(b"new"), 3) == (
        found.recorded_sha256,
        found.found_sha256,
        found.found_size_bytes,
    )
    assert "2026-11-20T14:03:00.000000Z" == found.found_modified_at


def test_an_older_file_put_in_its_place_is_not_called_newer(make: Any, tmp_path: Path, store: Store) -> None:
    (tmp_path / "d").write_bytes(b"new")
    os.utime(tmp_path / "d", (1000000000, 1000000000))
    found = _one(make, tmp_path, store, make.file("d", b"old"))
    assert "d was replaced by another file, last modified on 2001-09-09 01:46 UTC" == found.sentence


def test_a_forged_time_is_said(make: Any, tmp_path: Path, store: Store) -> None:
    (tmp_path / "d").write_bytes(b"new")
    os.utime(tmp_path / "d", (1000000000, 1000000000))
    file = make.file("d", b"old", modified_at="2001-09-09T01:46:40.000000Z")
    assert "although its time of modification is still" in _one(make, tmp_path, store, file).sentence


def test_a_file_that_is_gone(make: Any, tmp_path: Path, store: Store) -> None:
    found = _one(make, tmp_path, store, make.file("a/b/c", b"old"))
    assert found.sentence.startswith(f"a/b/c is gone ({tmp_path} last changed on 20")
    assert None is found.found_sha256


def test_a_file_beneath_what_is_a_file_now(make: Any, tmp_path: Path, store: Store) -> None:
    (tmp_path / "a").write_text("")
    assert "is gone" in _one(make, tmp_path, store, make.file("a/b", b"old")).sentence


def test_a_fifo_in_its_place_does_not_hang(make: Any, tmp_path: Path, store: Store) -> None:
    os.mkfifo(tmp_path / "d")
    assert "d is not a file any more" == _one(make, tmp_path, store, make.file("d", b"old")).sentence


def test_a_link_that_leads_to_itself_cannot_be_read(make: Any, tmp_path: Path, store: Store) -> None:
    (tmp_path / "d").symlink_to("d")
    assert "d cannot be read: Too many levels" in _one(make, tmp_path, store, make.file("d", b"old")).sentence


def test_an_input_that_the_run_wrote_over_is_lost(make: Any, tmp_path: Path, store: Store) -> None:
    (tmp_path / "ckpt").write_bytes(b"after")
    files = (make.file("ckpt", b"after", changed_during_run=True), make.file("ckpt", b"after", role="output"))
    [found] = data.inspect(_record(make, tmp_path, *files), store.objects, progress=print).mismatches
    assert "ckpt was read and then written over by the run itself; what it read was not kept" == found.sentence


def test_inputs_that_no_digest_vouches_for_are_said(make: Any, tmp_path: Path, store: Store) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(b"x")
    record = _record(
        make,
        tmp_path,
        make.file("a", digest=None),
        make.file("b", changed_during_run=True),
        make.file("c", digest=None),
        code_files=(make.code("c", b"x"),),
    )
    inspection = data.inspect(record, store.objects, progress=print)
    assert 3 == len(inspection.inputs)
    assert 2 == len(inspection.unchecked)
    assert "a could not be hashed when it was recorded, so it cannot be checked" == inspection.unchecked[0]
    assert inspection.unchecked[1].startswith("b changed while the run was going on")


def test_an_altered_object_does_not_stand_in_for_a_file(make: Any, tmp_path: Path, store: Store) -> None:
    digest = store.objects.put(b"good")
    path = store.objects.path(digest)
    path.chmod(0o644)
    path.write_bytes(b"evil")
    assert "is gone" in _one(make, tmp_path, store, make.file("g.py", b"good", category="code")).sentence


def test_large_data_is_announced(make: Any, tmp_path: Path, store: Store, lines: list[str]) -> None:
    (tmp_path / "d").write_bytes(b"x")
    record = _record(make, tmp_path, make.file("d", size_bytes=3_000_000_000))
    data.inspect(record, store.objects, progress=lines.append)
    assert ["checking 3.0 GB of input data by digest"] == lines


def test_names_that_are_not_utf8(make: Any, tmp_path: Path, store: Store) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/d\xff\\n")).write_bytes(b"x")
    inspection = data.inspect(_record(make, tmp_path, make.file("d\\xff\\\\n")), store.objects, progress=print)
    assert () == inspection.mismatches


def test_directories_born_during_the_run_were_made_by_it(make: Any, tmp_path: Path, store: Store) -> None:
    before = tmp_path / "before"
    before.mkdir()
    time.sleep(0.02)
    started = time.time()
    time.sleep(0.02)  # birth is told by the kernel's coarse clock
    made = before / "made"
    made.mkdir()
    (made / "o").write_text("")
    time.sleep(0.02)
    run = {"started_at": _at(started), "ended_at": _at(time.time())}
    record = _record(make, tmp_path, make.file("before/made/o", role="output"), run=run)
    found = data.inspect(record, store.objects, progress=print).made_directories
    if not found:
        pytest.skip("stat: this file system keeps no time of birth")
    assert (str(made),) == found


def test_without_a_stat_program_nothing_is_known_of_directories(
    make: Any, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "o").write_text("")
    monkeypatch.setenv("PATH", str(tmp_path))
    record = _record(make, tmp_path, make.file("o", role="output"))
    assert () == data.inspect(record, store.objects, progress=print).made_directories


def test_outputs_outside_the_tree_that_still_lie_there(make: Any, tmp_path: Path, store: Store) -> None:
    (tmp_path / "there").write_text("")
    files = [make.file(str(tmp_path / name), role="output") for name in ("there", "not")]
    record = _record(make, tmp_path / "root", *files)
    assert (str(tmp_path / "there"),) == data.inspect(record, store.objects, progress=print).present_outputs


def test_caches_of_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert [True, False, False] == [data.is_cache(p) for p in ("/home/me/.cache/x", "/home/me/x", "/srv/.cache/x")]


def test_a_file_that_was_opened_to_write_and_left_as_it_was_is_an_input(
    make: Any, tmp_path: Path, store: Store
) -> None:
    (tmp_path / "d.sqlite").write_bytes(b"same")
    files = (make.file("d.sqlite", b"same"), make.file("d.sqlite", b"same", role="output"))
    inspection = data.inspect(_record(make, tmp_path, *files), store.objects, progress=print)
    assert ["place"] == [item.source for item in inspection.inputs]
    assert () == inspection.mismatches


@pytest.mark.parametrize("content", [b"old", b"new"])
def test_blake3_digests_are_checked_with_blake3(make: Any, tmp_path: Path, store: Store, content: bytes) -> None:
    blake3 = pytest.importorskip("blake3", reason="blake3: not installed").blake3
    (tmp_path / "d").write_bytes(content)
    file = make.file("d", digest=f"blake3:{blake3(b'old').hexdigest()}")
    inspection = data.inspect(_record(make, tmp_path, file), store.objects, progress=print)
    assert (content == b"old") is (not inspection.mismatches)


def test_declared_data_that_nobody_read_is_checked_too(make: Any, tmp_path: Path, store: Store) -> None:
    found = _one(make, tmp_path, store, make.file("declared.csv", b"old", seen_by="declared", library="declared"))
    assert "declared.csv is gone" in found.sentence


def test_an_input_that_the_run_removed_itself(make: Any, tmp_path: Path, store: Store) -> None:
    change = FileChange(ordinal=0, action="removed", path="spool", target=None, process_key="main")
    record = _record(make, tmp_path, make.file("spool", b"old"), file_changes=(change,))
    [found] = data.inspect(record, store.objects, progress=print).mismatches
    assert "the run itself removed it" in found.sentence


def test_what_was_hashed_before_is_not_read_again(make: Any, tmp_path: Path, store: Store) -> None:
    path = tmp_path / "d"
    path.write_bytes(b"x")
    os.utime(path, (1000000000, 1000000000))
    time.sleep(0.1)  # else the file is too fresh to be remembered
    record = _record(make, tmp_path, make.file("d"))
    data.inspect(record, store.objects, progress=print, cache=tmp_path / "cache")
    assert list((tmp_path / "cache" / "stat").iterdir())
    cache = StatCache(tmp_path / "cache" / "stat")
    assert make.digest(b"x") == cache.digest(os.fsencode(path), path.stat())
    path.write_bytes(b"y")
    assert data.inspect(record, store.objects, progress=print, cache=tmp_path / "cache").mismatches


def test_programs_of_the_machine_are_looked_for(make: Any, tmp_path: Path, store: Store) -> None:
    tool = shutil.which("true") or "/bin/true"
    content = Path(tool).read_bytes()
    record = _record(
        make,
        tmp_path / "root",
        programs=(
            make.program(tool, content),
            make.program("/opt/gone/sox"),
            make.program("/opt/gone/true", content, argv=("true",)),
            make.program("/usr/bin/python3.11"),
            make.program(f"{tmp_path}/root/tool"),
            make.program("/env/bin/accelerate"),
        ),
        facts=(make.fact("environment", "prefix", "/env"),),
    )
    found = {tool.path: tool for tool in data.inspect(record, store.objects, progress=print).programs}
    assert {tool, "/opt/gone/sox", "/opt/gone/true"} == found.keys()
    assert found[tool].recorded_sha256 == found[tool].found_sha256
    assert None is found["/opt/gone/sox"].here
    assert "true" == Path(found["/opt/gone/true"].here or "").name


def test_a_name_that_no_file_can_have(make: Any, tmp_path: Path, store: Store) -> None:
    assert "no name that a file can have" in _one(make, tmp_path, store, make.file("a\0b", b"old")).sentence
