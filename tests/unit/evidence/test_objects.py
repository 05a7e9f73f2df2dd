from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from repro.errors import AlteredError, ExecutionError, InconclusiveError
from repro.evidence import canonical, objects
from repro.evidence.objects import Objects
from repro.evidence.store import Store


def test_what_is_put_can_be_got(store: Store) -> None:
    digest = store.objects.put(b"some bytes")
    assert canonical.digest(b"some bytes") == digest
    assert b"some bytes" == store.objects.get(digest)
    path = store.objects.path(digest)
    assert store.root / "objects" / digest[7:9] / digest[9:] == path
    assert 0o444 == path.stat().st_mode & 0o777
    store.objects.verify(digest)
    store.objects.sync([digest, canonical.digest(b"not there")])


def test_a_file_is_stored_as_its_bytes(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "file"
    data = os.urandom(3 * 1024 * 1024 + 17)
    file.write_bytes(data)
    assert (canonical.digest(data), len(data)) == store.objects.put_file(file)
    assert (canonical.digest(data), len(data)) == store.objects.put_file(file)
    assert data == store.objects.get(canonical.digest(data))


def test_nothing_is_left_behind(store: Store, tmp_path: Path) -> None:
    store.objects.put(b"a")
    store.objects.put(b"a")
    (tmp_path / "b").write_bytes(b"a")
    store.objects.put_file(tmp_path / "b")
    with pytest.raises(FileNotFoundError):
        store.objects.put_file(tmp_path / "missing")
    files = [path for path in store.objects.root.rglob("*") if path.is_file()]
    assert [store.objects.path(canonical.digest(b"a"))] == files


def test_a_file_that_changes_while_it_is_read_is_refused(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 100)
    fstat = os.fstat

    def append_after_the_first_look(descriptor: int) -> os.stat_result:
        status = fstat(descriptor)
        if os.path.samestat(status, file.stat()):
            with file.open("ab") as other:
                other.write(b"y")
        return status

    monkeypatch.setattr(os, "fstat", append_after_the_first_look)
    with pytest.raises(InconclusiveError, match="changed while it was read"):
        store.objects.put_file(file)
    assert [] == [path for path in store.objects.root.rglob("*") if path.is_file()]


def test_a_missing_object_is_named(store: Store) -> None:
    digest = canonical.digest(b"nothing")
    for read in (store.objects.get, store.objects.verify):
        with pytest.raises(InconclusiveError, match=f"objects/{digest[7:9]}/{digest[9:]} is missing"):
            read(digest)


def test_an_altered_object_is_named(store: Store, rewrite: Callable[[Path, bytes], None]) -> None:
    digest = store.objects.put(b"true")
    rewrite(store.objects.path(digest), b"fals")
    for read in (store.objects.get, store.objects.verify):
        with pytest.raises(AlteredError, match=f"{digest[9:]} was altered"):
            read(digest)
    assert canonical.digest(b"fals") == store.objects.digest(digest)


def test_an_object_cut_short_is_written_anew(store: Store, rewrite: Callable[[Path, bytes], None]) -> None:
    digest = store.objects.put(b"whole")
    rewrite(store.objects.path(digest), b"")
    assert digest == store.objects.put(b"whole")
    assert b"whole" == store.objects.get(digest)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/etc/hostname", path)])
def test_an_object_that_is_no_plain_file_is_refused(store: Store, make: Callable[[Path], None]) -> None:
    digest = store.objects.put(b"plain")
    path = store.objects.path(digest)
    path.unlink()
    make(path)
    for read in (store.objects.get, store.objects.verify):
        with pytest.raises(AlteredError, match=digest[9:]):
            read(digest)


@pytest.mark.parametrize("text", ["", "sha256:", "sha256:" + "/" * 64, "sha256:../" + "a" * 61, "md5:" + "a" * 64])
def test_only_a_digest_is_a_path(store: Store, text: str) -> None:
    with pytest.raises(AlteredError, match="not a digest"):
        store.objects.path(text)


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ExecutionError, match="cannot write to the object store"):
        Objects(tmp_path / "file" / "objects").put(b"x")


def test_a_disk_that_is_full_says_so_and_leaves_nothing(store: Store, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(2 * 1024 * 1024))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * 1024, hard))
    try:
        with pytest.raises(ExecutionError, match=r"cannot write to the object store: .*large"):
            store.objects.put(bytes(2 * 1024 * 1024))
        with pytest.raises(ExecutionError, match=r"cannot write to the object store: .*large"):
            store.objects.put_file(tmp_path / "large")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [] == [path for path in store.objects.root.rglob("*") if path.is_file()]


def test_many_writers_of_the_same_object_never_show_a_part(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from repro.evidence.objects import Objects\n"
        "objects = Objects(Path(sys.argv[1]))\n"
        "for n in range(40):\n"
        "    objects.get(objects.put(bytes([n]) * 100_000))\n"
    )
    root = Path(canonical.__file__).parents[2]
    workers = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "objects")], cwd=root, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    assert [(0, b"")] * 4 == [(worker.wait(), worker.communicate()[1]) for worker in workers]
    assert 40 == sum(path.is_file() for path in (tmp_path / "objects").rglob("*"))


def test_a_store_that_is_removed_meanwhile_is_made_anew(store: Store) -> None:
    store.objects.put(b"first")
    shutil.rmtree(store.root)
    assert b"second" == store.objects.get(store.objects.put(b"second"))


def test_what_is_no_regular_file_is_not_waited_for(store: Store, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match=re.escape("a named pipe (FIFO), not a regular file")):
        store.objects.put_file(tmp_path / "fifo")


def test_a_file_of_the_kernel_that_claims_to_be_empty_is_read(store: Store) -> None:
    digest, size_bytes = store.objects.put_file("/proc/self/cmdline")
    assert Path("/proc/self/cmdline").read_bytes() == store.objects.get(digest)
    assert size_bytes > 0


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Return a function that mounts a file system, for as long as the test runs."""
    if os.geteuid() != 0:
        pytest.skip("root: only root mounts file systems")
    mounted: list[Path] = []

    def make(*arguments: str) -> Path:
        folder = tmp_path / f"mounted-{len(mounted)}"
        folder.mkdir()
        done = subprocess.run(["mount", *arguments, str(folder)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"root: this machine does not let us mount: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_says_so_and_what_to_do(mount: Callable[..., Path], tmp_path: Path) -> None:
    full = Objects(mount("-t", "tmpfs", "-o", "size=1m", "tmpfs") / "objects")
    kept = full.put(b"small")
    (tmp_path / "large").write_bytes(os.urandom(3 * 1024 * 1024))
    for put in (lambda: full.put(bytes(2 * 1024 * 1024)), lambda: full.put_file(tmp_path / "large")):
        with pytest.raises(ExecutionError, match="No space left on device") as caught:
            put()
        assert "make room" in (caught.value.hint or "")
    assert b"small" == full.get(kept)
    assert [full.path(kept)] == [path for path in full.root.rglob("*") if path.is_file()]


def test_a_read_only_store_says_so(mount: Callable[..., Path]) -> None:
    folder = mount("-t", "tmpfs", "-o", "size=1m", "tmpfs")
    digest = Objects(folder).put(b"held")
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    assert digest == Objects(folder).put(b"held")
    with pytest.raises(ExecutionError, match="Read-only file system"):
        Objects(folder).put(b"new")
    Objects(folder).sync([digest] * (objects._SYNC_EACH + 1))


def test_a_store_without_room_is_known_beforehand(store: Store, mount: Callable[..., Path], tmp_path: Path) -> None:
    store.objects.require_room()
    assert [] == list(store.objects.root.iterdir())
    small = mount("-t", "tmpfs", "-o", "size=8m", "tmpfs")
    with pytest.raises(ExecutionError, match=r"is full: \d+ bytes are left"):
        Objects(small / "objects").require_room()
    (small / "filler").write_bytes(bytes(8 * 1024 * 1024))
    with pytest.raises(ExecutionError, match="No space left on device"):
        Objects(small / "objects").require_room()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ExecutionError, match="Not a directory"):
        Objects(tmp_path / "file").require_room()


def test_what_killed_recorders_left_is_removed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.objects.put(b"kept")
    (store.objects.root / ".incoming-left").write_bytes(b"half")
    store.objects.require_room()
    assert (store.objects.root / ".incoming-left").exists()
    monkeypatch.setattr(objects, "_ABANDONED_SECONDS", -1)
    store.objects.require_room()
    assert [canonical.digest(b"kept")[7:9]] == [path.name for path in store.objects.root.iterdir()]


def test_blocks_are_shared_where_the_file_system_can(mount: Callable[..., Path], tmp_path: Path) -> None:
    if shutil.which("mkfs.xfs") is None:
        pytest.skip("xfs: mkfs.xfs is not installed")
    image = tmp_path / "image"
    os.truncate(os.open(image, os.O_CREAT | os.O_WRONLY), 400 * 1024 * 1024)
    subprocess.run(["mkfs.xfs", "-q", str(image)], check=True)
    folder = mount("-o", "loop", str(image))
    (folder / "large").write_bytes(data := os.urandom(100 * 1024 * 1024))
    os.sync()
    before = shutil.disk_usage(folder).used
    store = Objects(folder / "objects")
    digest, size_bytes = store.put_file(folder / "large")
    assert (canonical.digest(data), len(data)) == (digest, size_bytes)
    os.sync()
    assert shutil.disk_usage(folder).used - before < 50 * 1024 * 1024
    store.verify(digest)
