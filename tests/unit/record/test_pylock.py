from __future__ import annotations

import tomllib

import pytest

from repro.record.software import pylock
from repro.record.software.lock import Answer, IndexFile


def file(name: str, **more: object) -> IndexFile:
    known = {"url": f"https://host.example/{name}", "sha256": "a" * 64, "size_bytes": 5, "uploaded_at": None}
    return IndexFile(name=name, **{**known, **more})  # type: ignore[arg-type]


ANSWERS = (
    Answer(
        name="b",
        version="2.0+cpu",
        index=None,
        files=(file("b-2.0+cpu-cp311-cp311-linux_x86_64.whl", url="file:///w/b.whl", size_bytes=None),),
    ),
    Answer(
        name="a",
        version="1.0",
        index="https://host.example/simple",
        files=(file("a-1.0-py3-none-any.whl"), file("a-1.0.tar.gz")),
    ),
    Answer(name="c", version="3", index=None, files=()),
)


def test_other_tools_read_it() -> None:
    reader = pytest.importorskip("packaging.pylock", reason="packaging: too old for lock files")
    read = reader.Pylock.from_dict(tomllib.loads(pylock.render(ANSWERS, "3.11.7")))
    read.validate()
    assert [(each.name, str(each.version), each.index) for each in read.packages] == [
        ("a", "1.0", "https://host.example/simple"),
        ("b", "2.0+cpu", None),
    ]
    assert read.packages[0].wheels[0].hashes == {"sha256": "a" * 64}
    assert (read.packages[0].wheels[0].size, read.packages[1].wheels[0].size) == (5, None)
    assert read.packages[0].sdist.name == "a-1.0.tar.gz"
    assert str(read.requires_python) == "==3.11.*"


def test_without_files_there_is_none() -> None:
    assert "" == pylock.render(ANSWERS[2:], "3.11.7")


def test_odd_text_is_quoted() -> None:
    text = pylock.render((Answer(name="a", version='1"\\\x7f\n', index=None, files=(file("a-1.zip"),)),), "3.11.7")
    assert tomllib.loads(text)["packages"][0]["version"] == '1"\\\x7f\n'
