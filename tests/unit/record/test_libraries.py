"""What real processes have mapped, from inside and from outside, and to whom it belongs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from repro.evidence import canonical
from repro.record import eventlog
from repro.record.capture import Findings, libraries
from repro.record.eventlog import Events
from repro.record.kernel.log import Executed, KernelEvents, Opened
from repro.record.software import mapped, owners
from repro.record.software.sharedobjects import Describer

LIBC = next(path for path in mapped.code_of(os.getpid()) if b"/libc.so" in path or b"/libc-" in path)


@pytest.fixture
def library(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that makes a real library."""
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("gcc: not installed")

    def make(name: str, value: int = 1) -> Path:
        (tmp_path / "source.c").write_text(f"int answer(void) {{ return {value}; }}\n")
        command = [gcc, "-shared", "-fPIC", "-Wl,--build-id", "-o", tmp_path / name, tmp_path / "source.c"]
        subprocess.run(command, check=True)
        return tmp_path / name

    return make


def after(context, **seen: object) -> Findings:
    return libraries.after(context(Path.cwd(), **seen))


def test_what_the_agent_told_is_described(context, library) -> None:
    ours = library("libcudnn.so.9.1.0")
    found = after(context, events=Events(mapped={str(ours), os.fsdecode(LIBC)}))
    rows = {row.path: row for row in found.shared_objects}
    row = rows[str(ours)]
    assert row.sha256 == canonical.digest_file(ours)[0]
    assert row.size_bytes == ours.stat().st_size
    assert row.build_id is not None
    assert 40 == len(row.build_id)
    assert row.owner is None
    assert found.fact("environment", "library.cudnn") == "libcudnn.so.9.1.0"
    assert (found.fact("environment", "library.glibc") or "").startswith("libc")
    assert () == found.gaps


def test_a_rebuilt_library_is_described_anew_though_the_cache_knew_it(context, library) -> None:
    ours = library("liba.so")
    os.utime(ours, (1, 1))
    seen = Events(mapped={str(ours)})
    (first,) = after(context, events=seen).shared_objects
    assert (first,) == after(context, events=seen).shared_objects
    library("liba.so", value=2)
    os.utime(ours, (1, 1))
    (second,) = after(context, events=seen).shared_objects
    assert first.build_id != second.build_id
    assert second.sha256 == canonical.digest_file(ours)[0]


def test_a_cache_that_is_broken_is_none(context, library) -> None:
    ours = library("liba.so")
    known = context(Path.cwd()).cache / "libraries" / "1.json"
    for broken in (b"", b"[]", b'{"61": [1]}', b'{"zz": [1, 2, 3, 4, 5, "", null, null]}', b"\xff"):
        known.parent.mkdir(parents=True, exist_ok=True)
        known.write_bytes(broken)
        assert 1 == len(after(context, events=Events(mapped={str(ours)})).shared_objects)


def test_a_library_that_is_gone_is_a_gap(context, tmp_path: Path) -> None:
    found = after(context, events=Events(mapped={str(tmp_path / "gone.so"), f"{tmp_path}/old.so (deleted)"}))
    assert [str(tmp_path / "gone.so"), str(tmp_path / "old.so"), "libraries"] == [gap.subject for gap in found.gaps]


def test_what_only_the_kernel_saw_is_described_and_what_is_no_library_is_not(context, library, tmp_path: Path) -> None:
    ours, data = library("libx.so.1"), tmp_path / "weights.so"
    data.write_text("not a library")
    state = {"existed": True, "size_bytes": 1, "mtime_ns": 1, "ctime_ns": 1, "inode": 1, "device": 1, "before": None}
    opens = [Opened(pid=7, path=str(path), mode="read", at=1.0, **state) for path in (ours, data)]  # type: ignore[arg-type]
    run = Executed(pid=7, parent=1, path=os.path.realpath(sys.executable), argv=(), at=1.0)
    found = after(context, kernel=KernelEvents(layer="strace", opens=opens, executions=[run]))
    assert {str(ours), os.path.realpath(sys.executable)} == {row.path for row in found.shared_objects}


def test_the_time_to_hash_is_limited_and_what_was_left_out_is_a_gap(context, library, monkeypatch) -> None:
    monkeypatch.setattr(Describer, "small_bytes", 0)
    here = context(Path.cwd(), events=Events(mapped={str(library("libbig.so"))}))
    here.patience.command_ended()
    here.patience.lose()
    found = libraries.after(here)
    assert [None] == [row.sha256 for row in found.shared_objects]
    assert found.shared_objects[0].build_id
    assert "libbig.so" in found.gaps[0].reason


def test_a_run_that_nobody_could_look_at_is_a_gap(context) -> None:
    assert "not known" in after(context).gaps[0].reason


def test_a_process_of_the_run_is_told_from_one_of_the_recorder(context, library, tmp_path: Path) -> None:
    ours = library("libseen.so")
    script = f"import ctypes, sys; ctypes.CDLL({str(ours)!r}); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-S", "-c", script]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    for marked, expected in ((True, {str(ours)}), (False, set())):
        environment = {**os.environ, **({"REPRO_EVENTS": str(tmp_path)} if marked else {})}
        with subprocess.Popen(command, env=environment, **pipes) as process:  # type: ignore[call-overload]
            process.stdout.readline()
            watcher = mapped.Watcher(lambda new: None)
            watcher.look()
            assert marked == (process.pid in set(mapped.processes_of_run(os.getpid())))
            process.stdin.close()
        assert expected == {os.fsdecode(path) for path in watcher.seen} & {str(ours)}


def test_a_process_that_is_killed_was_seen_while_it_ran(context, library, tmp_path: Path) -> None:
    ours = library("libseen.so")
    here = context(tmp_path)
    libraries.before(here)
    script = f"import ctypes, time; ctypes.CDLL({str(ours)!r}); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "REPRO_EVENTS": "x"}) as process:
        watch = libraries._watches[here.patience]
        while os.fsencode(ours) not in watch.describer.rows:
            assert watch.watcher.error is None
            assert process.poll() is None
        process.kill()
    assert str(ours) in {row.path for row in libraries.after(here).shared_objects}
    assert here.patience not in libraries._watches


def test_a_training_that_is_killed_leaves_its_libraries_in_the_record(
    library, repro_home: Path, tmp_path: Path
) -> None:
    ours = library("libseen.so")
    (tmp_path / "train.py").write_text(
        f"import ctypes, os, time; ctypes.CDLL({str(ours)!r}); time.sleep(2); os.kill(os.getpid(), 9)"
    )
    repro = [sys.executable, "-m", "repro"]
    command = [*repro, "record", "--lock-timeout", "0", "--", sys.executable, "train.py"]
    assert 137 == subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode
    shown = subprocess.run([*repro, "show", "@last", "--json"], cwd=tmp_path, capture_output=True, check=True).stdout
    rows = {row["path"]: row for row in json.loads(shown)["shared_objects"]}
    assert canonical.digest_file(ours)[0] == rows[str(ours)]["sha256"]
    assert os.fsdecode(LIBC) in rows


def test_what_an_agent_told_is_read_from_its_log(write_log) -> None:
    folder = write_log({"event": "mapped", "paths": ["/a", "/b"]}, {"event": "mapped", "paths": "/c"})
    events = eventlog.read(folder)
    assert {"/a", "/b"} == events.mapped
    assert 1 == len(events.gaps), "a list that is none is a line that could not be read"


def test_files_are_looked_for_in_the_lists_of_each_manager(tmp_path: Path) -> None:
    info = tmp_path / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    (info / "libc6:amd64.list").write_text("/.\n/lib/x/libc.so.6\n")
    (info / "libgomp1.list").write_text("/usr/lib/libgomp.so.1.0.0\n")
    (info.parent / "status").write_text(
        "Package: libc6\nArchitecture: amd64\nVersion: 2.36-9\nDescription: a\n Version: 0\n\n"
        "Package: libc6\nArchitecture: i386\nVersion: 2.35\n\nPackage: libgomp1\nVersion: 12.2\n"
    )
    (tmp_path / "lib/apk/db").mkdir(parents=True)
    (tmp_path / "lib/apk/db/installed").write_text("C:x\nP:musl\nV:1.2.4\nF:lib\nR:ld-musl.so.1\n\n")
    site = tmp_path / "env/lib/python3.11/site-packages"
    (site / "torch-2.9.0+cpu.dist-info").mkdir(parents=True)
    (site / "torch-2.9.0+cpu.dist-info/RECORD").write_text("torch/lib/libtorch_cpu.so,sha256=x,1\n")
    (tmp_path / "conda/conda-meta").mkdir(parents=True)
    (tmp_path / "conda/conda-meta/mkl.json").write_text(
        '{"name": "mkl", "version": "2024.0", "files": ["lib/libmkl_rt.so"]}'
    )
    (tmp_path / "conda/conda-meta/broken.json").write_text("[")
    torch, mkl = os.fsencode(site / "torch/lib/libtorch_cpu.so"), os.fsencode(tmp_path / "conda/lib/libmkl_rt.so")
    expected = {
        b"/usr/lib/x/libc.so.6": "libc6 2.36-9",
        b"/usr/lib/libgomp.so.1.0.0": "libgomp1 12.2",
        b"/lib/ld-musl.so.1": "musl 1.2.4",
        torch: "torch 2.9.0+cpu",
        mkl: "mkl 2024.0",
    }
    assert expected == owners.owners([*expected, b"/nobody/knows.so"], tmp_path)
