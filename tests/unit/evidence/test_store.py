from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from repro.errors import ExecutionError, UsageError
from repro.evidence import seal
from repro.evidence.model import Record
from repro.evidence.objects import Objects
from repro.evidence.store import RunDirectory, Store, home


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"REPRO_HOME": "/r", "XDG_DATA_HOME": "/x"}, "/r"),
        ({"XDG_DATA_HOME": "/x"}, "/x/repro"),
        ({"XDG_DATA_HOME": "relative"}, "~/.local/share/repro"),
        ({"XDG_DATA_HOME": "", "REPRO_HOME": ""}, "~/.local/share/repro"),
        ({"REPRO_HOME": "~/mine"}, "~/mine"),
    ],
)
def test_home(environment: dict[str, str], expected: str) -> None:
    assert Path(expected).expanduser() == home(environment)


def test_a_relative_home_is_relative_to_the_working_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REPRO_HOME", "here")
    assert tmp_path / "here" == home()
    assert tmp_path / "here" == Store().root


def test_a_run_directory_is_private_and_new(store: Store) -> None:
    directory = store.create_run()
    assert 0o700 == directory.path.stat().st_mode & 0o777
    assert 12 == len(directory.run_id) == len(set(directory.run_id) | set("0123456789abcdef")) - 4
    assert directory.run_id != store.create_run().run_id
    assert directory.path == directory.events.parent == directory.verdict.parent == directory.report.parent


def test_a_run_id_that_is_taken_is_drawn_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter(["0" * 12, "0" * 12, "1" * 12])
    monkeypatch.setattr("secrets.token_hex", lambda _: next(drawn))
    assert ["0" * 12, "1" * 12] == [store.create_run().run_id, store.create_run().run_id]


def test_a_home_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ExecutionError, match="cannot make a run"):
        Store(tmp_path / "file").create_run()
    with pytest.raises(ExecutionError, match="cannot read"):
        Store(tmp_path / "file").runs()


def make(store: Store, *run_ids: str) -> None:
    for run_id in run_ids:
        (store.runs_path / run_id).mkdir(parents=True)


def test_a_run_is_found_by_the_beginning_of_its_id(store: Store) -> None:
    make(store, "aaaa00000000", "aaab00000000", "b00000000000")
    (store.runs_path / "b-is-no-run").mkdir()
    assert "aaab00000000" == store.find("aaab").run_id
    assert "b00000000000" == store.find("b").run_id
    assert "aaaa00000000" == store.find("aaaa00000000").run_id


def test_an_ambiguous_name_lists_the_runs(store: Store) -> None:
    make(store, *(f"a{n:011d}" for n in range(12)))
    with pytest.raises(UsageError, match=r"beginning of 12 runs: a00000000000, .*, …"):
        store.find("a")


@pytest.mark.parametrize("reference", ["", "zz", "c", "@next", "../runs", "@last", "@prev"])
def test_a_name_that_no_run_has(store: Store, reference: str) -> None:
    make(store, "aaaa00000000")
    with pytest.raises(UsageError, match="there is no run") as caught:
        store.find(reference)
    assert caught.value.hint


def seal_at(store: Store, started_at: str, sample: Callable[[str, Objects], Record], **changes: object) -> RunDirectory:
    directory = store.create_run()
    record = sample(directory.run_id, store.objects)
    run = dataclasses.replace(record.run, started_at=started_at, **changes)  # type: ignore[arg-type]
    seal.seal_run(dataclasses.replace(record, run=run), directory, store)
    return directory


def test_runs_are_listed_newest_first(store: Store, sample: Callable[[str, Objects], Record]) -> None:
    old = seal_at(store, "2026-01-01T00:00:00.000000Z", sample, status="killed", exit_code=None, signal="SIGKILL")
    new = seal_at(store, "2026-03-01T00:00:00.000000Z", sample, replay_of=old.run_id)
    unsealed = store.create_run()
    os.utime(unsealed.path, (0, 0))
    broken = store.create_run()
    broken.statement.write_text('{"payload": "e30="}')
    os.utime(broken.path, (1, 1))

    listed = store.runs()
    assert [new.run_id, old.run_id, broken.run_id, unsealed.run_id] == [run.run_id for run in listed]
    assert ["completed", "killed", "unreadable", "unsealed"] == [run.status for run in listed]
    assert [True, True, False, False] == [run.sealed for run in listed]
    assert "1970-01-01T00:00:00.000000Z" == listed[3].started_at
    assert (old.run_id, 12.499999, 1, 0) == (
        listed[0].replay_of,
        listed[0].wall_seconds,
        listed[0].gaps,
        listed[0].exit_code,
    )
    assert "SIGKILL" == listed[1].signal
    assert ("python", "train.py") == listed[1].command[:2]

    assert new == store.find("@last")
    assert old == store.find("@prev")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"payload": 3}',
        '{"payload": "!"}',
        '{"payload": "e30="}',
        '{"payload": "eyJwcmVkaWNhdGUiOnsic3RhdHVzIjoxfX0="}',
    ],
)
def test_a_statement_that_is_no_statement_is_unreadable(store: Store, text: str) -> None:
    store.create_run().statement.write_text(text)
    assert ["unreadable"] == [run.status for run in store.runs()]
