"""What is known of installed files: kept from run to run, looked at ahead in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from repro.evidence.store import Store
from repro.record import statebook
from repro.record.recorder import Request, record
from repro.record.statebook import Ahead, Book, book_path

RECORD = "sha256:" + "0" * 64
PROGRAM = "/usr/bin/python"


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    paths = [tmp_path / "a", tmp_path / os.fsdecode(b"b\xff\n")]
    for path in paths:
        path.write_text(path.name[:1])
    return [str(path) for path in paths]


@pytest.fixture
def keep(tmp_path: Path, files: list[str]) -> Path:
    """A directory with one book, of two files, which the program needed the last time."""
    keep = tmp_path / "keep"
    book = Book(book_path(keep, "/site"))
    states = book.renew(RECORD, files)
    for number, path in enumerate(files):
        statebook.fill(states, number, Path(path).lstat())
    book.save()
    Ahead(keep, PROGRAM).remember(["/site"])
    return keep


def same(keep: Path, ahead: Ahead | None = None) -> bytes:
    part = Book(book_path(keep, "/site"), ahead).part(RECORD)
    assert part is not None
    return part.same


@pytest.mark.parametrize("is_ahead", [False, True])
def test_touched_and_missing_files_are_told_from_the_others(keep: Path, files: list[str], is_ahead) -> None:
    def look() -> bytes:
        return same(keep, Ahead(keep, PROGRAM) if is_ahead else None)

    assert b"11" == look()
    Path(files[1]).write_text("c")
    assert b"10" == look()
    Path(files[0]).unlink()
    assert b"00" == look()


def test_what_was_looked_at_ahead_is_believed_of_the_same_book_alone(keep: Path, files: list[str]) -> None:
    ahead = Ahead(keep, PROGRAM)
    assert b"11" == same(keep, ahead)
    Path(files[1]).write_text("c")
    assert b"11" == same(keep, ahead)  # it was asked once
    book = book_path(keep, "/site")
    statebook.write(book, book.read_bytes())
    assert b"10" == same(keep, ahead)


def test_another_program_is_not_looked_at_ahead(keep: Path) -> None:
    with book_path(keep, "/site").open("rb") as book:
        identity = statebook.unchanged.identify(os.fstat(book.fileno()))
    assert Ahead(keep, PROGRAM).same(identity) == b"11"
    assert Ahead(keep, "/usr/bin/other").same(identity) is None


@pytest.mark.parametrize(
    "damage", [lambda book: book[:-1], lambda book: book + b"\0", lambda book: b"{}", lambda book: b""]
)
def test_a_damaged_book_is_none(keep: Path, damage) -> None:
    book = book_path(keep, "/site")
    book.write_bytes(damage(book.read_bytes()))
    ahead = Ahead(keep, PROGRAM)
    assert Book(book, ahead).part(RECORD) is None
    ahead.end()


def test_a_book_that_says_the_same_is_not_written_again(keep: Path) -> None:
    path = book_path(keep, "/site")
    before = path.stat()
    book = Book(path)
    book.keep(RECORD)
    book.save()
    assert before == path.stat() or before.st_mtime_ns == path.stat().st_mtime_ns
    Book(path).save()  # nothing is installed there any more
    assert Book(path).part(RECORD) is None


def test_a_time_before_1970_is_not_remembered(keep: Path, files: list[str]) -> None:
    os.utime(files[0], ns=(0, -1))
    book = Book(book_path(keep, "/site"))
    states = book.renew(RECORD, files)
    statebook.fill(states, 0, Path(files[0]).lstat())
    assert [0, 0, 0, 0] == list(states[:4])


def test_the_next_run_of_a_program_looks_ahead(tmp_path: Path) -> None:
    """Recorded twice by the same program; the second time the note names the books of its environment."""
    store = Store(tmp_path / "store")
    request = Request(
        argv=(sys.executable, "-c", "pass"), working_directory=tmp_path, environment=dict(os.environ),
        wheelhouse="never", lock_timeout_seconds=0,
    )  # fmt: skip
    first, second = (record(request, store, progress=lambda message: None).record for _ in range(2))
    (note,) = (store.cache / "installed").glob("*.last")
    assert json.loads(note.read_bytes())
    assert {name for name in json.loads(note.read_bytes()) if not (store.cache / "installed" / name).is_file()} == set()
    compared = [{fact.name: fact.value for fact in each.facts}["packages_compared_files"] for each in (first, second)]
    assert int(compared[0]) <= int(compared[1])


def test_a_full_disk_leaves_no_half_file_in_the_cache(tmp_path: Path) -> None:
    limit = 1000
    writing = (
        f"import resource, signal\nresource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nfrom pathlib import Path\nfrom repro.record import statebook\n"
        f"statebook.write(Path({str(tmp_path)!r}) / 'cache' / 'name', b'x' * {limit + 1})"
    )
    subprocess.run([sys.executable, "-c", writing], check=True)
    assert [] == list((tmp_path / "cache").iterdir())
