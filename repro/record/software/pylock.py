"""The environment as `pylock.toml` (PEP 751), beside the lock: with the address and the size of each file.

Only distributions whose files an index has are in it. pip, uv and other installers read it without this tool.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from json.encoder import encode_basestring

from repro.record.software.lock import Answer, IndexFile


def render(answers: Iterable[Answer], python: str) -> str:
    """Return the text of a `pylock.toml`, empty where no index has any file.

    Args:
        answers: What the index said, with credentials removed from its addresses.
        python: The recorded interpreter's version, such as `3.11.7`.
    """
    packages = [answer for answer in answers if answer.files]
    if not packages:
        return ""
    minor = ".".join(python.split(".")[:2])
    head = f'lock-version = "1.0"\ncreated-by = "repro"\nrequires-python = "=={minor}.*"\n'
    return head + "".join("\n" + "\n".join(_package(each)) + "\n" for each in sorted(packages, key=lambda a: a.name))


def _package(answer: Answer) -> Iterator[str]:
    wheels = [file for file in answer.files if file.name.endswith(".whl")]
    # One source archive is all that the format has room for.
    sources = [file for file in answer.files if file.name.endswith((".tar.gz", ".zip"))]
    yield "[[packages]]"
    yield f"name = {_text(answer.name)}"
    yield f"version = {_text(answer.version)}"
    if answer.index is not None:
        yield f"index = {_text(answer.index)}"
    if sources:
        yield f"sdist = {_file(sources[0])}"
    if wheels:
        yield "wheels = ["
        yield from (f"    {_file(wheel)}," for wheel in wheels)
        yield "]"


def _file(file: IndexFile) -> str:
    size = "" if file.size_bytes is None else f", size = {file.size_bytes}"
    return (
        f"{{ name = {_text(file.name)}, url = {_text(file.url)}{size}, hashes = {{ sha256 = {_text(file.sha256)} }} }}"
    )


def _text(value: str) -> str:
    """Quote a basic string of TOML: JSON's escapes are among its own."""
    return encode_basestring(value).replace("\x7f", "\\u007f")
