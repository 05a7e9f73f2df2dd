"""A replay seen with the eyes of the run that it repeats."""

from __future__ import annotations

import json

import pytest

from repro.audit.rebase import path_map, rebase, replay_sentences
from repro.errors import InconclusiveError


def mapped(make, *pairs, **changes):
    return make.replay(facts=make.facts("replay", path_map=json.dumps(pairs)), **changes)


def test_a_run_that_is_no_replay_comes_back_as_it_is(make):
    record = make.original()
    assert rebase(record) is record


def test_paths_of_a_replay_become_those_of_the_original(make):
    original, replay = make.original(), rebase(make.replay())
    assert replay.run.argv == original.run.argv
    assert replay.run.root == original.run.root
    assert replay.processes[0].executable == original.processes[0].executable
    assert replay.fact("variable", "PYTHONPATH") == original.fact("variable", "PYTHONPATH")
    assert replay.seeds == original.seeds


@pytest.mark.parametrize(
    ("value", "expected"),
    [("/tmp/s/src", None), ("/tmp/s/src:/mine", "/mine"), ("/mine:/tmp/s/src", "/mine:/home/a/src"), ("", "")],
)
def test_what_a_replay_added_to_the_module_path_is_taken_away(make, value, expected):
    facts = (
        *make.facts("replay", path_map=json.dumps([["/home/a", "/tmp/s"]]), python_path=json.dumps(["/tmp/s/src"])),
        *make.facts("variable", PYTHONPATH=value),
    )
    assert rebase(make.replay(facts=facts)).fact("variable", "PYTHONPATH") == expected


def test_the_map_itself_is_left_alone(make):
    assert rebase(make.replay()).fact("replay", "path_map") == make.replay().fact("replay", "path_map")


def test_where_packages_stand_is_left_alone(make):
    assert rebase(make.replay()).packages == make.replay().packages


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/tmp/s", "/home/a"),
        ("/tmp/s/x", "/home/a/x"),
        ("--data=/tmp/s/x", "--data=/home/a/x"),
        ("/tmp/s/lib:/tmp/s", "/home/a/lib:/home/a"),
        ("/tmp/s2", "/tmp/s2"),
        ("/tmp/s.old/x", "/tmp/s.old/x"),
        ("/mnt/tmp/s", "/mnt/tmp/s"),
        ("file:/tmp/s,1", "file:/home/a,1"),
        ("/tmp/s/env/bin/python", "/opt/venv/bin/python"),
    ],
)
def test_a_prefix_is_replaced_at_its_boundaries_and_the_longest_first(make, text, expected):
    from dataclasses import replace

    record = mapped(make, ["/home/a", "/tmp/s"], ["/opt/venv", "/tmp/s/env"])
    record = replace(record, run=replace(record.run, argv=(text,)))
    assert rebase(record).run.argv == (expected,)


@pytest.mark.parametrize("text", ["{", '{"a": "b"}', "[" * 100_000, "7"])
def test_a_map_that_cannot_be_read_is_an_error_and_not_an_empty_map(make, text):
    with pytest.raises(InconclusiveError, match="path_map"):
        rebase(make.replay(facts=make.facts("replay", path_map=text)))


def test_what_a_replay_says_of_itself_is_read(make):
    replay = make.replay(facts=make.facts("replay", isolation='["The network was not cut off."]'))
    assert replay_sentences(replay, "isolation") == ("The network was not cut off.",)
    assert replay_sentences(replay, "conditions") == ()


def test_a_prefix_that_would_match_everything_is_dropped(make):
    assert path_map(mapped(make, ["/home/a", "/"], ["/home/b", ""], ["/home/c", "/c"])) == (("/home/c", "/c"),)
