from __future__ import annotations

import pytest

from repro.audit.wording import capital, counted, listed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the end", "The end"),
        ("loss of main", "Loss of main"),
        ("learning_rate.0 differs", "learning_rate.0 differs"),
        ("", ""),
    ],
)
def test_a_sentence_begins_with_a_capital_unless_with_a_name(text, expected):
    assert expected == capital(text)


def test_numbers_and_lists_read_as_they_should():
    assert (counted(1, "output"), counted(0, "output"), counted(12345, "gap")) == (
        "1 output",
        "0 outputs",
        "12,345 gaps",
    )
    assert listed(("a", "b", "c")) == "a, b, c"
    assert listed(("a", "b", "c", "d", "e")) == "a, b, c and 2 more"
