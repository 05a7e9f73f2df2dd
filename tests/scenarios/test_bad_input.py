"""Whatever a run meets on its disks, it goes on, its record says what was not seen, and the record is intact."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

LAST_WORDS = "the training went on\n"


def end_of(script: str) -> str:
    """Return a script that ends with words and a status of its own."""
    return f"import os, sys\n{script}\nprint({LAST_WORDS.strip()!r})\nsys.exit(7)\n"


@pytest.fixture
def train(repro, record, tmp_path: Path) -> Callable[..., Any]:
    """Return a function that records a script, sees that it ended by itself and is sealed, and returns the record."""

    def run(script: str, **more: Any) -> Any:
        folder = tmp_path / "project"
        folder.mkdir(exist_ok=True)
        (folder / "job.py").write_text(end_of(script))
        recorded = record([sys.executable, "job.py"], cwd=folder, **more)
        assert (7, LAST_WORDS) == (recorded.exit_status, recorded.out), recorded.err
        assert "Traceback" not in recorded.err
        verified = repro("verify", "@last", cwd=folder)
        assert 0 == verified.exit_status, verified.err
        assert "INTACT" in verified.out
        return repro("show", "@last", "--json", cwd=folder).answer

    return run


def inputs(record: Any) -> dict[str, str | None]:
    return {row["path"]: row["digest"] for row in record["data_files"] if row["role"] == "input"}


def gaps(record: Any) -> dict[str, str]:
    return {row["subject"]: row["reason"] for row in record["gaps"] if row["topic"] == "data"}


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_what_is_no_regular_file_is_neither_waited_for_nor_lost(train) -> None:
    record = train(
        """
import socket, threading
os.mkfifo("fifo")
threading.Thread(target=lambda: open("fifo", "w").write("through a pipe")).start()
assert "through a pipe" == open("fifo").read()
listener = socket.socket(socket.AF_UNIX); listener.bind("socket")
os.symlink("loop", "loop"); os.symlink("nowhere", "dangling")
for name in ("socket", "loop", "dangling"):
    try:
        open(name)
    except OSError:
        pass
assert 10 == len(open("/dev/zero", "rb").read(10))
open("plain", "w").write("x"); os.symlink("plain", "link")
open("good").read(); open("link").read()
""".replace('open("good").read()', "open('job.py').read()")
    )
    seen = inputs(record)
    assert not any(
        digest for path, digest in seen.items() if path in ("fifo", "socket", "loop", "dangling", "/dev/zero")
    )
    assert not [reason for reason in gaps(record).values() if "failed" in reason]


def test_a_device_node_in_the_project_is_not_read(train, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("root: only root makes device nodes")
    folder = tmp_path / "project"
    folder.mkdir()
    os.mknod(folder / "zero", 0o600 | 0o020000, os.makedev(1, 5))
    record = train("assert 10 == len(open('zero', 'rb').read(10))")
    assert inputs(record).get("zero") is None


def test_files_that_cannot_be_read_any_more_are_gaps(train, tmp_path: Path) -> None:
    """Neither the file that is gone, nor the one that may no longer be read, nor the one in a locked folder."""
    folder = tmp_path / "project"
    (folder / "locked").mkdir(parents=True)
    for name in ("gone", "forbidden", "locked/inside", "kept"):
        (folder / name).write_text(name)
    record = train("for n in ('gone', 'kept'): open(n).read()\nos.unlink('gone')")
    assert sha256(b"kept") == inputs(record)["kept"]
    assert inputs(record)["gone"] is None or sha256(b"gone") == inputs(record)["gone"]
    assert inputs(record)["gone"] is not None or "gone" in gaps(record)


def test_files_that_may_not_be_read_are_gaps(repro, repro_home: Path, tmp_path: Path) -> None:
    """Root without its privileges is a user like any other."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("root: only root can put its privileges down with setpriv")
    (tmp_path / "locked").mkdir()
    for name in ("forbidden", "locked/inside", "kept"):
        (tmp_path / name).write_text(name)
    (tmp_path / "never.py").write_text("x = 1")
    (tmp_path / "never.py").chmod(0)
    read = "for n in ('forbidden', 'locked/inside', 'kept'): open(n).read()\n"
    (tmp_path / "job.py").write_text(end_of(read + "os.chmod('forbidden', 0); os.chmod('locked', 0)"))
    powerless = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    argv = [*powerless, sys.executable, "-m", "repro", "record", "--lock-timeout", "0", "--", sys.executable, "job.py"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    (tmp_path / "locked").chmod(0o700)
    assert (7, LAST_WORDS) == (done.returncode, done.stdout), done.stderr
    assert 0 == repro("verify", "@last", cwd=tmp_path).exit_status
    record = repro("show", "@last", "--json", cwd=tmp_path).answer
    assert sha256(b"kept") == inputs(record)["kept"]
    for name in ("forbidden", "locked/inside"):
        known = inputs(record).get(name)
        assert known == sha256(name.encode()) or name in gaps(record), record["gaps"]
    assert [gap for gap in record["gaps"] if gap["subject"] == "never.py" and "not readable" in gap["reason"]]


def test_names_that_are_no_text_are_kept(train, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/project"
    os.mkdir(folder)
    names = [b"new\nline", b"\xff\xfe.bin", b"back\\slash", "grün".encode(), b" ", b"-o", b"n" * 255]
    for name in names:
        with open(folder + b"/" + name, "wb") as file:
            file.write(name)
    record = train(f"for name in {names!r}: open(name, 'rb').read()")
    assert {sha256(name) for name in names} <= set(inputs(record).values())
    encoded = {"new\nline", "\\xff\\xfe.bin", "back\\\\slash", "grün", " ", "-o", "n" * 255}
    assert encoded <= set(inputs(record))


def test_paths_of_four_thousand_bytes_are_kept(train, tmp_path: Path) -> None:
    missing = 4090 - len(os.fsencode(tmp_path / "project" / "file"))
    deep = "/".join(["d" * 200] * (missing // 201))
    (tmp_path / "project" / deep).mkdir(parents=True)
    (tmp_path / "project" / deep / "file").write_text("deep")
    record = train(f"open('{deep}/file').read()\nopen(os.path.abspath('{deep}/file')).read()")
    assert sha256(b"deep") == inputs(record)[f"{deep}/file"]


def test_a_path_that_no_call_can_name_whole_is_no_trouble(train) -> None:
    record = train(
        """
for _ in range(25):
    os.mkdir("d" * 200); os.chdir("d" * 200)
open("file", "w").write("too deep"); open("file").read()
"""
    )
    assert not [gap for gap in record["gaps"] if "it failed" in gap["reason"]]


@pytest.mark.slow
def test_ten_gigabytes_of_nothing_are_hashed(train, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    os.truncate(os.open(folder / "sparse", os.O_CREAT | os.O_WRONLY), 10_000_000_000)
    record = train("assert bytes(10) == open('sparse', 'rb').read(10)")
    assert (
        "sha256:1a0a850851f333647936c0a1b4576e7ab90398b9e1ae2faf4bb66ca6b72cf724" == inputs(record)["sparse"]
    )  # of ten thousand million zeros


def test_a_file_that_changes_after_it_was_read_is_said(train, tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "data").write_text("before")
    record = train("open('data').read()\nopen('data', 'w').write('after!')")
    row = next(row for row in record["data_files"] if (row["path"], row["role"]) == ("data", "input"))
    assert row["digest"] == sha256(b"before") or (row["changed_during_run"] and "data" in gaps(record))


def test_a_file_that_is_written_to_all_the_time_is_a_gap_or_marked(train, tmp_path: Path) -> None:
    """By a process that goes on when the run has ended."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "log").write_bytes(bytes(3_000_000))
    meddler = "import time\nwhile True:\n    open('log', 'ab').write(b'x'); time.sleep(0.001)"
    with subprocess.Popen([sys.executable, "-c", meddler], cwd=folder) as process:
        try:
            record = train("open('log', 'rb').read()")
        finally:
            process.kill()
    row = next(row for row in record["data_files"] if (row["path"], row["role"]) == ("log", "input"))
    assert "log" in gaps(record)
    assert row["digest"] is None or row["changed_during_run"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Return a function that mounts a small disk in memory."""
    if os.geteuid() != 0:
        pytest.skip("root: only root mounts file systems")
    folder = tmp_path / "disk"
    folder.mkdir()

    def make(size: str) -> Path:
        argv = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"root: this machine does not let us mount: {done.stderr.strip()}")
        return folder

    yield make
    subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)


def job(folder: Path, script: str) -> list[str]:
    folder.mkdir(exist_ok=True)
    (folder / "job.py").write_text(end_of("open('started', 'w')\n" + script))
    return [sys.executable, "job.py"]


@pytest.mark.parametrize("how", ["full", "read-only", "a file", "under a file"])
def test_a_store_that_cannot_be_written_is_said_before_the_command_starts(
    how: str, record, disk: Callable[[str], Path], tmp_path: Path
) -> None:
    home = disk("1m") / "home"
    if how == "full":
        (home.parent / "filler").write_bytes(bytes(1024 * 1024))
    elif how == "read-only":
        subprocess.run(["mount", "-o", "remount,ro", str(home.parent)], check=True)
    else:
        home.write_bytes(b"")
        home = home / "home" if how == "under a file" else home
    folder = tmp_path / "project"
    recorded = record(job(folder, ""), cwd=folder, variables={"REPRO_HOME": str(home)})
    assert 6 == recorded.exit_status, recorded.err
    assert not (folder / "started").exists()
    assert "error: " in recorded.err
    assert "REPRO_HOME" in recorded.err
    assert "Traceback" not in recorded.err


@pytest.mark.parametrize("how", ["fill", "vanish"])
def test_a_store_that_fails_while_the_command_runs_costs_it_nothing(
    how: str, repro, record, disk: Callable[[str], Path], tmp_path: Path
) -> None:
    home = disk("24m") / "home"
    folder = tmp_path / "project"
    script = {
        "fill": f"""
try:
    open({str(home.parent / "filler")!r}, 'wb', buffering=0).write(bytes(64 * 1024 * 1024))
    open({str(home.parent / "filler")!r}, 'ab', buffering=0).write(bytes(4096 * 3))
except OSError:
    pass
""",
        "vanish": f"import shutil; shutil.rmtree({str(home)!r})",
    }[how]
    variables = {"REPRO_HOME": str(home)}
    recorded = record(job(folder, script), cwd=folder, variables=variables)
    assert (7, LAST_WORDS) == (recorded.exit_status, recorded.out), recorded.err
    assert "Traceback" not in recorded.err
    assert (
        "was not sealed" in recorded.err or 0 == repro("verify", "@last", cwd=folder, variables=variables).exit_status
    )


def test_output_that_fills_the_disk_of_the_store_passes_through(
    repro, record, disk: Callable[[str], Path], tmp_path: Path
) -> None:
    home = disk("24m") / "home"
    folder = tmp_path / "project"
    argv = job(folder, "sys.stdout.write('x' * 39_999_999 + '\\n')")
    variables = {"REPRO_HOME": str(home)}
    recorded = record(argv, cwd=folder, variables=variables)
    assert (7, "x" * 39_999_999 + "\n" + LAST_WORDS) == (recorded.exit_status, recorded.out), recorded.err
    assert "Traceback" not in recorded.err
    assert (
        "was not sealed" in recorded.err or 0 == repro("verify", "@last", cwd=folder, variables=variables).exit_status
    )


def record_with_failing(calls: str, error: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Record a job while these system calls of the recorder fail; a call that is not traced is not tampered with."""
    argv = [sys.executable, "-m", "repro", "record", "--no-trace", "--lock-timeout", "0", "--", *job(folder, "")]
    injected = ["strace", "-f", "-qq", "-o", os.devnull, "-e", f"trace={calls}", "-e", f"inject={calls}:error={error}"]
    done = subprocess.run([*injected, *argv], cwd=folder, capture_output=True, text=True, check=False)
    assert (7, LAST_WORDS) == (done.returncode, done.stdout), done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.strace
@pytest.mark.parametrize(
    ("calls", "error"),
    [
        ("flock", "ENOLCK"),
        ("link,linkat", "EPERM"),
        ("link,linkat", "EOPNOTSUPP"),
    ],
)
def test_a_store_on_a_file_system_without_locks_or_hard_links(
    calls: str, error: str, repro, repro_home: Path, tmp_path: Path
) -> None:
    """As on NFS without a lock daemon, or on exFAT."""
    folder = tmp_path / "project"
    done = record_with_failing(calls, error, folder)
    assert "was not sealed" not in done.stderr, done.stderr
    assert 0 == repro("verify", "@last", cwd=folder).exit_status
    assert 7 == json.loads(repro("show", "@last", "--json", cwd=folder).out)["run"]["exit_code"]


@pytest.mark.strace
@pytest.mark.parametrize("calls", ["fsync", "fdatasync", "rename,renameat,renameat2"])
def test_a_disk_that_fails_when_the_run_is_sealed_costs_it_nothing(
    calls: str, repro, repro_home: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "project"
    done = record_with_failing(calls, "EIO", folder)
    assert "was not sealed" in done.stderr or 0 == repro("verify", "@last", cwd=folder).exit_status
