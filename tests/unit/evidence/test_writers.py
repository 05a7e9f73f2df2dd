"""The index of who wrote a checkpoint: asked by file and by content, dropped and built anew at will."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from repro.evidence import seal
from repro.evidence.canonical import encode_path
from repro.evidence.goingon import goes_on_at, sources
from repro.evidence.model import (
    Checkpoint,
    CheckpointTensor,
    Continuation,
    Fingerprint,
    Record,
    Run,
)
from repro.evidence.store import Store
from repro.evidence.writers import NAME, Writers

WORDS = ("0123456789abcdef", "fedcba9876543210")


def digest(digit: str) -> str:
    return f"sha256:{digit * 64}"


def checkpoint(action: Any = "written", **changes: Any) -> Checkpoint:
    row = Checkpoint(
        process_key="main",
        ordinal=0,
        action=action,
        path="a.pt",
        library="torch",
        steps='{"optimizer.0":10}' if action == "written" else "{}",
        tensor_count=2,
        digest=digest("a"),
        file_digest=digest("b"),
        at_seconds=1.0,
    )
    return replace(row, **changes)


def record(run_id: str, *checkpoints: Checkpoint, day: int = 1, words: str = "".join(WORDS), **rest: Any) -> Record:
    run = Run(
        run_id=run_id,
        replay_of=rest.pop("replay_of", None),
        argv=("python", "train.py"),
        root=encode_path(Path("/project")),
        working_directory=".",
        started_at=f"2026-11-{day:02}T08:00:00.000000Z",
        ended_at=f"2026-11-{day:02}T09:00:00.000000Z",
        wall_seconds=1.0,
        cpu_seconds=1.0,
        peak_memory_bytes=1,
        status="completed",
        exit_code=0,
        signal=None,
        recorder_version="0",
    )
    weights = Fingerprint(
        process_key="main", anchor="optimizer.0", step=0, place=0, field="weight", words=words, at_seconds=0.5
    )
    tensors = tuple(
        CheckpointTensor(
            process_key=row.process_key, checkpoint=row.ordinal, place=i, name=str(i), shape="[2]", dtype="x", word=word
        )
        for row in checkpoints
        for i, word in enumerate(WORDS)
    )
    return Record(run=run, checkpoints=checkpoints, checkpoint_tensors=tensors, fingerprints=(weights,), **rest)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def sealed(store: Store) -> Any:
    """Return a function that seals a record in the store, under the id of a new run."""

    def put(make: Any) -> str:
        directory = store.create_run()
        seal.seal_run(make(directory.run_id), directory, store)
        return directory.run_id

    return put


def asked(store: Store, row: Checkpoint, *, before: str = "2026-11-30", whole: bool = True) -> Continuation | None:
    with Writers(store) as writers:
        writers.refresh()
        return writers.of(row, before=before, whole=whole)


def test_the_same_bytes_come_before_the_same_tensors_and_the_newest_before_older_ones(store, sealed) -> None:
    old, new = (sealed(lambda run_id, day=day: record(run_id, checkpoint(), day=day)) for day in (1, 3))
    sealed(lambda run_id: record(run_id, checkpoint(file_digest=None), day=4))
    found = asked(store, checkpoint("read"))
    assert (new, "file", "main", 0) == (
        found.from_run_id,
        found.matched_by,
        found.from_process_key,
        found.from_checkpoint,
    )
    assert old == asked(store, checkpoint("read"), before="2026-11-02").from_run_id, "only what is older"
    assert asked(store, checkpoint("read"), before="2026-10-01") is None
    assert "content" == asked(store, checkpoint("read", file_digest=digest("c"))).matched_by
    assert asked(store, checkpoint("read", file_digest=None), whole=False) is None
    assert asked(store, checkpoint("read", file_digest=digest("c"), digest=digest("c"))) is None


def test_an_original_comes_before_its_replays(store, sealed) -> None:
    original = sealed(lambda run_id: record(run_id, checkpoint(), day=1))
    sealed(lambda run_id: record(run_id, checkpoint(), day=2, replay_of=original))
    assert original == asked(store, checkpoint("read")).from_run_id


def test_it_is_a_cache(store, sealed) -> None:
    run_id = sealed(lambda run_id: record(run_id, checkpoint()))
    path = store.cache / NAME
    assert run_id == asked(store, checkpoint("read")).from_run_id
    path.unlink()
    assert run_id == asked(store, checkpoint("read")).from_run_id
    path.write_bytes(b"no database at all, but long enough to be taken for one" * 100)
    assert run_id == asked(store, checkpoint("read")).from_run_id
    for file in sorted((store.runs_path / run_id).iterdir()):
        file.unlink()
    (store.runs_path / run_id).rmdir()
    assert asked(store, checkpoint("read")) is None, "the run is gone"


def test_what_the_index_says_is_not_believed(store, sealed) -> None:
    run_id = sealed(lambda run_id: record(run_id, checkpoint()))
    with Writers(store) as writers:
        writers.refresh()
        writers.add(record(run_id, checkpoint(digest=digest("d"), file_digest=digest("e"))))
        assert writers.of(checkpoint("read", file_digest=digest("e"), digest=digest("d")), before="2027") is None
    manifest = store.runs_path / run_id / "manifest.duckdb"
    manifest.chmod(0o600)
    manifest.write_bytes(manifest.read_bytes()[:-1] + b"x")
    (store.cache / NAME).unlink()
    assert asked(store, checkpoint("read")) is None, "the run is not what was signed"


def test_steps_add_up_along_the_chain(store, sealed) -> None:
    first = sealed(lambda run_id: record(run_id, checkpoint(), day=1))
    link = asked(store, checkpoint("read"))
    assert '{"optimizer.0":10}' == link.steps
    written = checkpoint(ordinal=1, digest=digest("c"), file_digest=digest("d"), steps='{"optimizer.0":7}')
    second = record("0" * 12, checkpoint("read"), written, day=2, continuations=(link,))
    assert {("main", "optimizer.0"): 10} == goes_on_at(second)
    assert first == sources(second)["main", "optimizer.0"].from_run_id
    sealed(lambda run_id: replace(second, run=replace(second.run, run_id=run_id)))
    assert '{"optimizer.0":17}' == asked(store, checkpoint("read", digest=digest("c"), file_digest=digest("d"))).steps


@pytest.mark.parametrize(
    ("words", "goes_on"),
    [
        ("".join(WORDS), True),
        (WORDS[0] + "0" * 16, True),
        ("1" * 16 + "0" * 16, False),
        ("-" * 32, False),
        ("", False),
    ],
)
def test_an_anchor_goes_on_from_what_its_first_weights_are(words: str, goes_on: bool) -> None:
    link = Continuation(
        process_key="main",
        checkpoint=0,
        from_run_id="1" * 12,
        from_process_key="main",
        from_checkpoint=4,
        matched_by="file",
        steps='{"optimizer.0":10}',
    )
    assert goes_on == bool(goes_on_at(record("0" * 12, checkpoint("read"), words=words, continuations=(link,))))
