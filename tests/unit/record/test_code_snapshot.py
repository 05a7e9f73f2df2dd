"""Trees of many files: read once, stored beside the command, not read again while they are unchanged."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from repro.evidence import canonical
from repro.record import statcache
from repro.record.capture import Context, Findings, code
from repro.record.tree import contents, snapshot, worktree


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Store every committed file beside the command, and read in threads."""
    monkeypatch.setattr(snapshot, "STORED_AT_ONCE_BYTES", 0)
    monkeypatch.setattr(snapshot, "_MANY_FILES", 2)


def beside(context: Context, found: Findings) -> Findings:
    return found + code.beside(replace(context, findings=found))


def old(*paths: Path) -> None:
    """Let files look as if they had been changed long ago: only waiting changes the time of change."""
    deadline = time.time_ns() + statcache._FINE_TICK_NS + 100_000_000
    while time.time_ns() < deadline:
        time.sleep(0.1)
    assert all(path.stat().st_ctime_ns < time.time_ns() - statcache._FINE_TICK_NS for path in paths)


@pytest.mark.usefixtures("later")
def test_committed_files_are_stored_beside_the_command(repository: Path, context: Callable[..., Context]) -> None:
    (repository / "new.py").write_text("new\n")
    ctx = context(repository)
    before = code.before(ctx)
    held = {file.path: ctx.objects.path(file.sha256).exists() for file in before.code_files}
    assert {"logo.bin": False, "new.py": True, "train.py": False} == held
    found = beside(ctx, before)
    assert () == found.gaps
    assert all(len(ctx.objects.get(file.sha256)) == file.size_bytes for file in found.code_files)


@pytest.mark.usefixtures("later")
def test_what_the_run_changed_and_git_lacks_is_withdrawn_with_a_gap(
    repository: Path, context: Callable[..., Context]
) -> None:
    ctx = context(repository)
    before = code.before(ctx)
    (repository / "train.py").write_text("print('written by the run')\n")
    (blob,) = contents.blob_ids(b"print(1)\n", ("sha1",))
    (repository / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    found = beside(ctx, before)
    assert found.withdrawn == ("train.py",)
    assert [gap.subject for gap in found.gaps if "only its digest is known" in gap.reason] == ["train.py"]
    kept = [file for file in found.code_files if file.path != "train.py"]
    assert found.fact("code", "tree") == canonical.tree_digest(kept)
    assert all(ctx.objects.path(file.sha256).exists() for file in kept)


@pytest.mark.usefixtures("later")
def test_what_the_run_changed_before_it_was_stored_is_taken_from_git(
    repository: Path, context: Callable[..., Context]
) -> None:
    ctx = context(repository)
    before = code.before(ctx)
    (repository / "train.py").write_text("print('written by the run')\n")
    (repository / "logo.bin").unlink()
    found = beside(ctx, before)
    assert () == found.gaps
    assert [b"\0\1\2", b"print(1)\n"] == [ctx.objects.get(file.sha256) for file in found.code_files]


@pytest.mark.usefixtures("later")
def test_what_neither_the_disk_nor_git_has_any_more_is_a_gap(
    repository: Path, context: Callable[..., Context], git: Callable[..., bytes]
) -> None:
    ctx = context(repository)
    before = code.before(ctx)
    blob = git(repository, "rev-parse", "HEAD:train.py").decode().strip()
    (repository / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    (repository / "train.py").unlink()
    (gap,) = beside(ctx, before).gaps
    assert ("train.py", True) == (gap.subject, "only its digest is known" in gap.reason)


def test_unchanged_files_are_not_read_again(
    repository: Path, context: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    old(repository / "train.py", repository / "logo.bin")
    first = code.before(context(repository))
    (repository / "logo.bin").write_bytes(b"\0\1\3")
    read: list[bytes] = []
    stable = contents._stable
    monkeypatch.setattr(contents, "_stable", lambda full, names: read.append(full) or stable(full, names))
    second = code.before(context(repository))
    assert [os.fsencode(repository / "logo.bin")] == read
    assert first.code_files[1] == second.code_files[1]
    assert ("committed", "modified") == (first.code_files[0].state, second.code_files[0].state)


def test_a_file_changed_within_the_clock_of_the_file_system_is_read_again(
    repository: Path, context: Callable[..., Context]
) -> None:
    code.before(context(repository))
    about = (repository / "train.py").stat()
    (repository / "train.py").write_text("print(2)\n")
    os.utime(repository / "train.py", ns=(about.st_atime_ns, about.st_mtime_ns))
    assert "modified" == code.before(context(repository)).code_files[1].state


def test_a_repository_made_of_a_known_folder(
    tmp_path: Path, context: Callable[..., Context], git: Callable[..., bytes]
) -> None:
    root = tmp_path / "plain"
    root.mkdir()
    (root / "a.py").write_text("a\n")
    old(root / "a.py")
    assert "plain" == code.before(context(root)).code_files[0].state
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "first")
    assert "committed" == code.before(context(root)).code_files[0].state


def test_an_object_that_was_lost_is_stored_again(repository: Path, context: Callable[..., Context]) -> None:
    old(repository / "train.py")
    ctx = context(repository)
    found = code.before(ctx)
    ctx.objects.path(found.code_files[1].sha256).unlink()
    again = beside(ctx, code.before(ctx))
    assert b"print(1)\n" == ctx.objects.get(again.code_files[1].sha256)


def test_many_files_come_in_order(tmp_path: Path, context: Callable[..., Context]) -> None:
    root = tmp_path / "many"
    root.mkdir()
    for number in range(1200):
        (root / f"{number:04}.py").write_text(f"{number}\n")
    ctx = context(root)
    found = code.before(ctx)
    assert [f"{number}\n".encode() for number in range(1200)] == [ctx.objects.get(f.sha256) for f in found.code_files]


def test_code_comes_before_data_where_there_is_a_limit(
    tmp_path: Path, context: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "plain"
    (root / "data").mkdir(parents=True)
    for number in range(20):
        (root / "data" / f"{number:02}.bin").write_bytes(b"x" * 10)
    (root / "train.py").write_text("print(1)\n")
    monkeypatch.setattr(snapshot, "MAX_TOTAL_BYTES", 50)
    found = code.before(context(root))
    assert ["data/00.bin", "data/01.bin", "data/02.bin", "data/03.bin", "train.py"] == [
        f.path for f in found.code_files
    ]
    monkeypatch.setattr(worktree, "MAX_PLAIN_FILES", 3)
    assert "train.py" in {file.path for file in code.before(context(root)).code_files}
