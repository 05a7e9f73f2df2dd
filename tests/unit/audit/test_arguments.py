from __future__ import annotations

import pytest

from repro.audit.arguments import GIVEN, named_arguments


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (("python", "train.py"), {"command": "python", "argument 1": "train.py"}),
        (("python", "t.py", "--lr", "0.1"), {"command": "python", "argument 1": "t.py", "--lr": "0.1"}),
        (("python", "t.py", "--lr=0.1"), {"command": "python", "argument 1": "t.py", "--lr": "0.1"}),
        (("t", "--shift", "-0.5", "-x"), {"command": "t", "--shift": "-0.5", "-x": GIVEN}),
        (("t", "--shift", "-1e-5"), {"command": "t", "--shift": "-1e-5"}),
        (("t", "--fast", "--lr", "1"), {"command": "t", "--fast": GIVEN, "--lr": "1"}),
        (("t", "--tag", "a", "--tag", "b"), {"command": "t", "--tag": "a", "--tag (2)": "b"}),
        (("t", "--", "--lr", "1"), {"command": "t", "argument 1": "--lr", "argument 2": "1"}),
        (("t", "-", ""), {"command": "t", "argument 1": "-", "argument 2": ""}),
        (("t", "--empty="), {"command": "t", "--empty": ""}),
        ((), {}),
    ],
)
def test_every_item_gets_the_name_of_its_option(argv, expected):
    assert expected == named_arguments(argv)
