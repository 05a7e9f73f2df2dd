import json

import pytest

from repro.replay.relocation import Move, path_map, paths_named, relocate

MOVES = (
    Move(recorded="/home/me/p", here="/new/p"),
    Move(recorded="/home/me/p/.venv", here="/cache/v"),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/me/p", "/new/p"),
        ("/home/me/p/train.py", "/new/p/train.py"),
        ("/home/me/p/.venv/bin/python", "/cache/v/bin/python"),
        ("--data=/home/me/p/d", "--data=/new/p/d"),
        ("-d/home/me/p/d", "-d/new/p/d"),
        ("file:///home/me/p/d", "file:///new/p/d"),
        ("/home/me/p:/usr/lib:/home/me/p/lib", "/new/p:/usr/lib:/new/p/lib"),
        ('cd /home/me/p && python "/home/me/p/a b.py"', 'cd /new/p && python "/new/p/a b.py"'),
        ("/home/me/project", "/home/me/project"),
        ("/other/home/me/p", "/other/home/me/p"),
        ("x/home/me/p", "x/home/me/p"),
        ("--x-d/home/me/p", "--x-d/home/me/p"),
        ("", ""),
    ],
)
def test_whole_path_components_are_rewritten_and_nothing_else(text: str, expected: str) -> None:
    assert expected == relocate(text, MOVES)


def test_what_was_written_is_not_rewritten_again() -> None:
    moves = (Move(recorded="/a", here="/b"), Move(recorded="/b", here="/c"))
    assert "/b/x /c/x" == relocate("/a/x /b/x", moves)


def test_a_prefix_is_text_and_not_a_pattern() -> None:
    moves = (Move(recorded="/a.b+(c)", here=r"/x\1"),)
    assert r"/x\1/y /aab+(c)" == relocate("/a.b+(c)/y /aab+(c)", moves)


def test_no_moves_change_nothing() -> None:
    assert "/a" == relocate("/a", ())


def test_paths_named_in_arguments_and_shell_commands() -> None:
    assert ("/data/in", "/data/out") == paths_named("cp --from=/data/in /data/out/ rel/x 2/3")


def test_the_path_map_lists_the_longest_prefix_first() -> None:
    assert [["/home/me/p/.venv", "/cache/v"], ["/home/me/p", "/new/p"]] == json.loads(path_map(MOVES))
