from __future__ import annotations

import hashlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repro.errors import InconclusiveError, UsageError
from repro.evidence import canonical, hashing, manyfiles
from repro.evidence.hashing import Algorithm

ALGORITHMS: tuple[Algorithm, ...] = ("sha256", "blake3")
PIECE = hashing._PIECE_BYTES


def expected(data: bytes, algorithm: Algorithm = "sha256") -> str:
    if algorithm == "sha256":
        return "sha256:" + hashlib.sha256(data).hexdigest()
    from blake3 import blake3

    return f"blake3:{blake3(data).hexdigest()}"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("size", [0, 1, 20_000, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 17 * PIECE + 5])
def test_a_digest_is_that_of_the_bytes(algorithm: Algorithm, size: int, tmp_path: Path) -> None:
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    for path in (tmp_path / "file", str(tmp_path / "file"), os.fsencode(tmp_path / "file")):
        assert (expected(data, algorithm), size) == hashing.digest_file(path, algorithm)


def test_sha256_is_what_an_auditor_computes(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(os.urandom(70_000))
    said = subprocess.run(["sha256sum", file], capture_output=True, text=True, check=True).stdout
    assert f"sha256:{said[:64]}" == hashing.digest_file(file)[0] == canonical.digest_file(file)[0]


def test_blake3_is_what_its_paper_says(tmp_path: Path) -> None:
    """The empty input of the reference implementation's test vectors."""
    (tmp_path / "empty").write_bytes(b"")
    vector = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert (f"blake3:{vector}", 0) == hashing.digest_file(tmp_path / "empty", "blake3")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_many_files_small_and_large_are_all_answered_once(algorithm: Algorithm, tmp_path: Path) -> None:
    sizes = [n % 7 * 1000 if n % 50 else 2 * PIECE + n for n in range(300)]
    for n, size in enumerate(sizes):
        (tmp_path / str(n)).write_bytes(bytes([n % 256]) * size)
    paths = [tmp_path / str(n) for n in range(300)]
    outcomes = sorted(manyfiles.digest_files(paths, algorithm), key=lambda each: each[0])
    assert list(range(300)) == [index for index, _ in outcomes]
    assert sizes == [outcome.size_bytes for _, outcome in outcomes]
    assert [expected(path.read_bytes(), algorithm) for path in paths] == [outcome.digest for _, outcome in outcomes]
    assert [path.stat().st_ctime_ns for path in paths] == [each.about.st_ctime_ns for _, each in outcomes if each.about]


def test_files_that_have_to_be_waited_for_are_hashed_by_many_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manyfiles, "_MOSTLY_WAITING", float("inf"))
    for n in range(700):
        (tmp_path / str(n)).write_bytes(b"%d" % n)
    paths = [tmp_path / str(n) for n in range(700)] + [tmp_path / "missing"]
    found = dict(manyfiles.digest_files(paths))
    assert [expected(b"%d" % n) for n in range(700)] == [found[n].digest for n in range(700)]
    assert "it is gone" == found[700].error
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("hashing")]


def forget(path: Path) -> None:
    """Have the kernel forget what it holds of a file."""
    descriptor = os.open(path, os.O_RDWR)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def is_in_memory(path: Path) -> bool:
    return not hashing.has_to_be_waited_for(path)


def test_files_are_read_ahead_where_the_first_is_not_in_memory(tmp_path: Path) -> None:
    first, second, pipe = tmp_path / "first", tmp_path / "second", tmp_path / "pipe"
    for path in (first, second):
        path.write_bytes(bytes(100_000))
        forget(path)
    os.mkfifo(pipe)
    if is_in_memory(second):
        pytest.skip("this file system forgets nothing")
    hashing.read_ahead([first, tmp_path / "missing", pipe, second])
    deadline = time.monotonic() + 30
    while not (is_in_memory(first) and is_in_memory(second)):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    forget(second)
    hashing.read_ahead([first, second])
    assert not is_in_memory(second)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (os.mkfifo, r"a named pipe \(FIFO\), not a regular file"),
        (os.mkdir, "a folder, not a regular file"),
        (make_socket, "a socket, not a regular file"),
        (lambda path: os.symlink("/dev/zero", path), "a character device, not a regular file"),
        (lambda path: os.symlink(path, path), "Too many levels of symbolic links"),
        (lambda path: None, "gone|No such file"),
    ],
    ids=["fifo", "folder", "socket", "device", "loop", "missing"],
)
def test_what_is_no_regular_file_is_refused_at_once(make, reason: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)  # the address of a socket must be short
    make(Path("thing"))
    with pytest.raises(OSError, match=reason):
        hashing.digest_file("thing")
    ((_, outcome),) = manyfiles.digest_files([b"thing"])
    assert outcome.digest is None
    assert re.match("it (is gone|could not be read: )", outcome.error or "")
    assert re.search(reason, outcome.error or "")


def test_a_block_device_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("root: only root makes device nodes")
    node = tmp_path / "node"
    os.mknod(node, 0o600 | 0o060000, os.makedev(7, 0))  # /dev/loop0
    with pytest.raises(OSError, match="a block device, not a regular file"):
        hashing.digest_file(node)


class Meddler:
    """Writes to a file each time that it is looked at, so many times."""

    def __init__(self, path: Path, times: int) -> None:
        self.path, self.times, self.fstat = path, times, os.fstat

    def __call__(self, descriptor: int) -> os.stat_result:
        about = self.fstat(descriptor)
        if self.times and os.path.samestat(about, self.path.stat()):
            self.times -= 1
            with self.path.open("ab") as file:
                file.write(b"more")
        return about


@pytest.mark.parametrize("size", [10, 2 * PIECE])
def test_a_file_that_changes_once_is_hashed_again(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * size)
    monkeypatch.setattr(os, "fstat", Meddler(file, 2))
    found = hashing.digest_file(file)
    assert (expected(file.read_bytes()), file.stat().st_size) == found


def test_a_file_that_keeps_changing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    monkeypatch.setattr(os, "fstat", Meddler(file, -1))
    with pytest.raises(InconclusiveError, match="file has no digest: it changed while it was read, twice"):
        hashing.digest_file(file)
    ((_, outcome),) = manyfiles.digest_files([file])
    assert "it changed while it was read, twice" == outcome.error


def test_a_file_that_is_cut_short_while_it_is_read_kills_nobody(tmp_path: Path) -> None:
    """A memory map would be answered with SIGBUS."""
    file = tmp_path / "file"
    script = (
        "import sys; from repro.evidence import manyfiles\n"
        "for _ in range(30): print([o.error for _, o in manyfiles.digest_files([sys.argv[1], sys.argv[1]])])\n"
    )
    root = Path(hashing.__file__).parents[2]
    file.write_bytes(bytes(40 * PIECE))
    with subprocess.Popen([sys.executable, "-c", script, file], cwd=root, stdout=subprocess.PIPE) as process:
        while process.poll() is None:
            os.truncate(file, 0)
            os.truncate(file, 40 * PIECE)
            time.sleep(0.001)
    assert 0 == process.returncode


@given(
    pieces=st.lists(st.tuples(st.integers(0, 60), st.integers(1, 4)), max_size=5),
    size=st.integers(64 * 4096, 70 * 4096),
    algorithm=st.sampled_from(ALGORITHMS),
)
def test_holes_are_zeros(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[int, int]], size: int, algorithm: Algorithm
) -> None:
    file = tmp_path_factory.mktemp("sparse") / "file"
    with file.open("wb") as opened:
        for page, count in pieces:
            opened.seek(page * 4096)
            opened.write(os.urandom(count * 4096 - 100))
        opened.truncate(size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashing, "_SPARSE_BYTES", 0)
        patch.setattr(hashing, "_SPARSE_FACTOR", 1)
        patch.setattr(hashing, "LARGE_BYTES", 4096)
        patch.setattr(hashing, "_PIECE_BYTES", 3 * 4096)
        assert (expected(file.read_bytes(), algorithm), size) == hashing.digest_file(file, algorithm)


def test_a_large_sparse_file_has_the_digest_that_sha256sum_finds(tmp_path: Path) -> None:
    file = tmp_path / "sparse"
    with file.open("wb") as opened:
        for offset in (0, 300_000_000, 511_999_999):
            opened.seek(offset)
            opened.write(b"data")
        opened.truncate(512_000_000)
    if file.stat().st_blocks * 512 > 10_000_000:
        pytest.skip("sparse: this file system has no holes")
    assert (expected(file.read_bytes()), 512_000_000) == hashing.digest_file(file)


def test_progress_is_told_and_hashing_can_be_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_TELL_SECONDS", 0.0)
    (tmp_path / "large").write_bytes(bytes(8 * PIECE))
    (tmp_path / "small").write_bytes(b"small")
    paths = [tmp_path / "large", tmp_path / "small", tmp_path / "large"]
    told: list[int] = []
    assert 3 == len(list(manyfiles.digest_files(paths, progress=told.append)))
    assert 16 * PIECE + 5 == max(told)
    told.clear()
    stopped = dict(manyfiles.digest_files(paths, progress=told.append, give_up=lambda: bool(told)))
    assert 3 == len(stopped)
    assert 1 <= sum(outcome.error is not None for outcome in stopped.values())
    assert {"it was not hashed to the end: hashing was given up", None} >= {each.error for each in stopped.values()}
    assert max(told) < 16 * PIECE


def test_a_reader_that_stops_early_waits_for_no_thread(tmp_path: Path) -> None:
    for n in range(6):
        os.truncate(os.open(tmp_path / str(n), os.O_CREAT | os.O_WRONLY), 4_000_000_000_000)
    outcomes = manyfiles.digest_files([b"/dev/null", *(tmp_path / str(n) for n in range(6))])
    assert 0 == next(outcomes)[0]
    outcomes.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("hashing")]


def test_what_goes_wrong_in_a_thread_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_TELL_SECONDS", 0.0)
    (tmp_path / "large").write_bytes(bytes(2 * PIECE))

    def fail(hashed_bytes: int) -> None:
        raise RuntimeError("no terminal")

    outcomes = dict(manyfiles.digest_files([tmp_path / "large"] * 2, progress=fail))
    assert {"it could not be hashed: RuntimeError: no terminal"} == {each.error for each in outcomes.values()}


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "blake3", None)
    with pytest.raises(UsageError, match="blake3 is not installed") as caught:
        hashing.digest_file(tmp_path, "blake3")
    assert "pip install blake3" in (caught.value.hint or "")


def test_blake3_is_imported_only_when_it_is_asked_for() -> None:
    code = "import sys, repro.evidence.hashing; print('blake3' in sys.modules, 'concurrent.futures' in sys.modules)"
    root = Path(hashing.__file__).parents[2]
    said = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert "False False" == said.stdout.strip()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_digest_names_its_algorithm(algorithm: Algorithm) -> None:
    digest = algorithm + ":" + "0" * 64
    assert hashing.is_digest(digest)
    assert algorithm == hashing.algorithm_of(digest)


@pytest.mark.parametrize("text", ["", "md5:" + "0" * 64, "sha256:" + "0" * 63, "sha256:" + "A" * 64, "blake3:../etc"])
def test_what_is_no_digest_names_none(text: str) -> None:
    assert not hashing.is_digest(text)
    with pytest.raises(ValueError, match="is not a digest"):
        hashing.algorithm_of(text)
