"""Places in a join are claimed once, whoever asks, and the numbers are what the launcher was told."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from repro.errors import UsageError
from repro.evidence.store import Store
from repro.record import join
from repro.record.join import Asked

TORCHRUN = ("torchrun", "--nnodes", "4", "--node-rank=2", "train.py")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


@pytest.mark.parametrize(
    ("argv", "variables", "expected"),
    [
        (TORCHRUN, {}, (2, 4)),
        (TORCHRUN, {"NODE_RANK": "1", "NNODES": "9"}, (2, 4)),
        (("accelerate", "launch", "--num_machines=3", "--machine_rank", "1", "t.py"), {}, (1, 3)),
        (("python", "t.py"), {"SLURM_NNODES": "8", "SLURM_NODEID": "5"}, (5, 8)),
        (("python", "t.py"), {"NNODES": "2"}, (0, 2)),
    ],
)
def test_numbers_come_from_the_launcher(store: Store, argv, variables, expected) -> None:
    member = join.enter(Asked(join_id="j"), argv, variables, store).member
    assert expected == (member.node, member.nodes)


def test_what_the_user_says_is_stronger(store: Store) -> None:
    member = join.enter(Asked(join_id="j", nodes=2, node=1), TORCHRUN, {}, store).member
    assert (1, 2) == (member.node, member.nodes)


@pytest.mark.parametrize(
    ("asked", "argv", "said"),
    [
        (Asked(join_id="../up"), TORCHRUN, "is no id of a join"),
        (Asked(join_id=""), TORCHRUN, "is no id of a join"),
        (Asked(join_id="j"), ("torchrun", "--nnodes", "1:4", "t.py"), "needs the number of nodes"),
        (Asked(join_id="j", nodes=0), TORCHRUN, "needs the number of nodes"),
        (Asked(join_id="j", nodes=2), TORCHRUN, "no node 2 among 2"),
    ],
)
def test_what_makes_no_sense_is_refused_before_the_start(store: Store, asked: Asked, argv, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        join.enter(asked, argv, {}, store)


def _take(root: Path, results) -> None:
    try:
        results.put(join.enter(Asked(join_id="j", nodes=6), (), {}, Store(root)).member.node)
    except UsageError:
        results.put(None)


def test_no_two_recordings_get_one_place(store: Store) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    started = [context.Process(target=_take, args=(store.root, results)) for _ in range(8)]
    for process in started:
        process.start()
    found = [results.get(timeout=60) for _ in started]
    for process in started:
        process.join()
    assert [*range(6), None, None] == sorted(found, key=lambda node: (node is None, node))


def test_a_place_that_was_left_is_free_again(store: Store) -> None:
    join.enter(Asked(join_id="j", nodes=1), (), {}, store).leave()
    place = join.enter(Asked(join_id="j", nodes=1), (), {}, store)
    assert () == place.sealed("0123456789ab")
    assert {0: "0123456789ab"} == join.sealed_parts(place.folder)
    with pytest.raises(UsageError, match="it is run 0123456789ab"):
        join.enter(Asked(join_id="j", nodes=1, node=0), (), {}, store)


def test_one_alone_merges(store: Store) -> None:
    places = [join.enter(Asked(join_id="j", nodes=2), (), {}, store) for _ in range(2)]
    assert [(1,), ()] == [place.sealed(f"{n:012x}") for n, place in enumerate(places)]
    assert [True, False] == [place.is_merger() for place in places]


def test_marks_of_strangers_are_no_parts(store: Store) -> None:
    place = join.enter(Asked(join_id="j", nodes=4), (), {}, store)
    for name, text in (
        ("1.sealed", "{"),
        ("2.sealed", '{"run_id": "../../etc"}'),
        ("x.sealed", "{}"),
        ("3.sealed", "7"),
    ):
        (place.folder / name).write_text(text)
    assert {} == join.sealed_parts(place.folder)
    assert (0,) == join.begun_parts(place.folder)
