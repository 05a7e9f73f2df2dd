from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repro.evidence import manyfiles
from repro.record import statcache
from repro.record.statcache import StatCache

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "stat"


@pytest.fixture
def old_file(tmp_path: Path) -> Callable[..., bytes]:
    """Return a function that makes a file which was last touched before the next cache is opened."""

    def make(name: str = "file", data: bytes = b"data") -> bytes:
        path = tmp_path / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        settle(path)
        return os.fsencode(path)

    return make


def settle(path: Path | bytes) -> None:
    """Wait until a file's last change is older than any tick of the clock."""
    while time.time_ns() - os.stat(path).st_ctime_ns < 4 * statcache._FINE_TICK_NS:
        time.sleep(0.01)


def remember(directory: Path, path: bytes, digest: str = A, *values: str) -> None:
    cache = StatCache(directory)
    cache.remember(path, os.stat(path), digest, values)
    cache.save()


def test_an_unchanged_file_is_remembered_with_what_else_was_said_of_it(directory: Path, old_file) -> None:
    path = old_file()
    remember(directory, path, A, "blob", "")
    cache = StatCache(directory)
    assert A == cache.digest(path, os.stat(path))
    assert (A, "blob", "") == cache.recall(path, os.stat(path))
    assert cache.digest(path + b"?", os.stat(path)) is None


def test_what_was_remembered_is_known_before_it_is_saved(directory: Path, old_file) -> None:
    path = old_file()
    cache = StatCache(directory)
    cache.remember(path, os.stat(path), A)
    assert A == cache.digest(path, os.stat(path))


def overwrite_in_place(path: bytes) -> None:
    before = os.stat(path)
    with open(path, "r+b") as file:
        file.write(b"DATA")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_by_a_twin(path: bytes) -> None:
    before = os.stat(path)
    with open(path + b".new", "wb") as file:
        file.write(b"DATA")
    os.utime(path + b".new", ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(path + b".new", path)


def append(path: bytes) -> None:
    with open(path, "ab") as file:
        file.write(b"!")


@pytest.mark.parametrize("change", [overwrite_in_place, replace_by_a_twin, append, lambda path: os.chmod(path, 0o600)])
def test_a_file_that_was_touched_is_not_trusted(change: Callable[[bytes], None], directory: Path, old_file) -> None:
    path = old_file()
    remember(directory, path)
    change(path)
    assert StatCache(directory).digest(path, os.stat(path)) is None


def test_a_file_that_was_just_touched_is_not_remembered(directory: Path, tmp_path: Path) -> None:
    """Within one tick of the clock it could be written again and look the same."""
    cache = StatCache(directory)
    path = os.fsencode(tmp_path / "file")
    Path(os.fsdecode(path)).write_bytes(b"data")
    cache.remember(path, os.stat(path), A)
    assert cache.digest(path, os.stat(path)) is None
    cache.save()
    assert not directory.exists()


def test_a_time_stamp_of_whole_seconds_needs_whole_seconds_of_rest(directory: Path, old_file) -> None:
    path = old_file()
    cache = StatCache(directory)
    fields = list(os.stat(path))
    whole = int(time.time()) - 1
    about = os.stat_result((*fields, *[None] * 3, *[whole * 1_000_000_000] * 3))
    assert (whole * 10**9, whole * 10**9) == (about.st_mtime_ns, about.st_ctime_ns)
    cache.remember(path, about, A)
    assert cache.digest(path, about) is None


@pytest.mark.parametrize("values", [(), ("blob",)])
@pytest.mark.parametrize("change", [None, append, replace_by_a_twin])
def test_a_folder_is_known_as_each_of_its_files_is(
    directory: Path, old_file, change: Callable[[bytes], None] | None, values: tuple[str, ...]
) -> None:
    names = ["a", "grün", "odd\udcff", "z\n"]
    paths = [old_file(f"set/{name}") for name in names]
    old_file("set/deep/b"), old_file("set-2/c")
    cache = StatCache(directory)
    for number, path in enumerate([*reversed(paths), os.path.dirname(paths[0]) + b"/deep/b"]):
        cache.remember(path, os.stat(path), f"sha256:{number:064}", values)
    cache.save()
    if change is not None:
        change(paths[2])
    again, one_by_one = StatCache(directory), StatCache(directory)
    states = [statcache.state_of(os.stat(path)) for path in paths]
    found = again.digests(os.path.dirname(paths[0]) + b"/", names, states)
    assert found == [one_by_one.digest(path, os.stat(path)) for path in paths]
    assert [digest is None for digest in found] == [change is not None and path == paths[2] for path in paths]
    assert again.digests(os.path.dirname(paths[0]) + b"/", names[1:3], states[1:3]) == found[1:3]
    assert again.digests(os.path.dirname(paths[0]) + b"/", ["new"], states[:1]) == [None]


def test_use_of_a_whole_folder_keeps_its_files(directory: Path, old_file, monkeypatch: pytest.MonkeyPatch) -> None:
    path = old_file("set/a")
    remember(directory, path)
    today = statcache._today()
    for day in (60, 120):
        monkeypatch.setattr(statcache, "_today", lambda day=day: today + day)
        cache = StatCache(directory)
        states = [statcache.state_of(os.stat(path))]
        assert [A] == cache.digests(os.path.dirname(path) + b"/", ["a"], states)
        cache.save()


def test_a_file_of_the_future_is_hashed_again_each_time(directory: Path, old_file) -> None:
    path = old_file()
    os.utime(path, (4_000_000_000, 4_000_000_000))
    settle(path)
    remember(directory, path)
    assert StatCache(directory).digest(path, os.stat(path)) is None


def test_a_digest_of_another_algorithm_is_not_kept(directory: Path, old_file) -> None:
    path = old_file()
    cache = StatCache(directory, "blake3")
    cache.remember(path, os.stat(path), A)
    assert cache.digest(path, os.stat(path)) is None
    remember(directory, path)
    assert StatCache(directory, "blake3").digest(path, os.stat(path)) is None


def test_strange_names_are_kept(directory: Path, tmp_path: Path) -> None:
    names = [b"new\nline", b"\xff\xfe", "grün".encode(), b"a" * 255, b"tab\tand \x1f"]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(b"x")
    paths = [os.fsencode(tmp_path) + b"/" + name for name in names]
    settle(paths[-1])
    cache = StatCache(directory)
    for path in paths:
        cache.remember(path, os.stat(path), A)
    cache.save()
    again = StatCache(directory)
    assert [A] * len(paths) == [again.digest(path, os.stat(path)) for path in paths]


@pytest.mark.parametrize("value", ["\x1f", "\0", "ü", "\n\x1f"])
def test_a_value_that_the_file_cannot_hold_is_not_kept(value: str, directory: Path, old_file) -> None:
    path = old_file()
    remember(directory, path, A, value)
    assert StatCache(directory).recall(path, os.stat(path)) is None


@given(cut=st.integers(0, 400), flip=st.integers(0, 10_000), data=st.binary(max_size=30))
def test_a_damaged_cache_is_ignored(tmp_path_factory: pytest.TempPathFactory, cut: int, flip: int, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    path = os.fsencode(folder / "file")
    Path(os.fsdecode(path)).write_bytes(b"x")
    about = os.stat(path)
    cache = StatCache(folder / "stat")
    cache._opened_at_ns = about.st_ctime_ns + 10**10
    cache.remember(path, about, A)
    cache.save()
    (file,) = (folder / "stat").iterdir()
    whole = bytearray(file.read_bytes())
    whole[flip % len(whole)] ^= 1
    for damaged in (bytes(whole), bytes(whole[:cut]), data):
        file.write_bytes(damaged)
        assert StatCache(folder / "stat").digest(path, about) is None


def test_a_run_loads_only_the_regions_that_it_asks_about(directory: Path, old_file) -> None:
    paths = [old_file(f"{name}/file") for name in ("one", "two", "two/deeper")]
    root = os.path.dirname(os.path.dirname(paths[0]))
    cache = StatCache(directory, roots=[root + b"/one", root + b"/two/"])
    for path in paths:
        cache.remember(path, os.stat(path), A)
    cache.save()
    assert 2 == len(list(directory.iterdir()))
    again = StatCache(directory, roots=[root + b"/one", root + b"/two/"])
    assert A == again.digest(paths[2], os.stat(paths[2]))
    assert 1 == len(again._regions)


def test_recorders_at_the_same_time_keep_what_the_others_found(directory: Path, old_file) -> None:
    paths = [old_file(f"file-{n}") for n in range(4)]
    first, second = StatCache(directory), StatCache(directory)
    for cache, path, digest in ((first, paths[0], A), (second, paths[1], B)):
        cache.digest(path, os.stat(path))  # both have loaded what there was: nothing
        cache.remember(path, os.stat(path), digest)
    first.save()
    second.save()
    script = (
        "import os, sys; from pathlib import Path; from repro.record.statcache import StatCache\n"
        "for n in range(20):\n"
        "    cache = StatCache(Path(sys.argv[1])); path = os.fsencode(sys.argv[2])\n"
        "    cache.remember(path, os.stat(path), 'sha256:' + 'c' * 64); cache.save()\n"
    )
    root = Path(statcache.__file__).parents[2]
    argv = [sys.executable, "-c", script, str(directory)]
    workers = [subprocess.Popen([*argv, os.fsdecode(path)], cwd=root) for path in paths[2:]]
    assert [0, 0] == [worker.wait() for worker in workers]
    again = StatCache(directory)
    assert [A, B] == [again.digest(path, os.stat(path)) for path in paths[:2]]
    assert all(file.suffix == ".sha256" for file in directory.iterdir())


def test_what_was_not_used_for_long_is_dropped(directory: Path, old_file, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [old_file("old"), old_file("used")]
    for path in paths:
        remember(directory, path)
    today = statcache._today()
    for day in (60, 120):
        monkeypatch.setattr(statcache, "_today", lambda day=day: today + day)
        cache = StatCache(directory)
        assert A == cache.digest(paths[1], os.stat(paths[1]))
        cache.save()
    again = StatCache(directory)
    assert [None, A] == [again.digest(path, os.stat(path)) for path in paths]


def test_the_cache_is_bounded(directory: Path, old_file, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [old_file(f"{n}/file") for n in range(3)]
    roots = [os.path.dirname(path) for path in paths]
    monkeypatch.setattr(statcache, "_MAX_BYTES", 700)
    for path in paths:
        cache = StatCache(directory, roots=roots)
        cache.remember(path, os.stat(path), A)
        cache.save()
    sizes = [file.stat().st_size for file in directory.iterdir()]
    assert 0 < sum(sizes) <= 700
    again = StatCache(directory, roots=roots)
    assert [None, A] == [again.digest(path, os.stat(path)) for path in (paths[0], paths[2])]


def test_a_cache_that_cannot_be_written_is_no_trouble(tmp_path: Path, old_file) -> None:
    path = old_file()
    (tmp_path / "file").write_bytes(b"")
    cache = StatCache(tmp_path / "file" / "stat")
    cache.remember(path, os.stat(path), A)
    cache.save()
    assert cache.digest(path, os.stat(path)) is None


def test_what_hashing_says_of_a_file_is_what_the_cache_wants(directory: Path, old_file) -> None:
    path = old_file()
    cache = StatCache(directory)
    ((_, outcome),) = manyfiles.digest_files([path])
    assert outcome.about is not None
    assert outcome.digest is not None
    cache.remember(path, outcome.about, outcome.digest)
    assert outcome.digest == cache.digest(path, os.stat(path))
