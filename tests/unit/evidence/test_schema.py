from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from repro.errors import AlteredError
from repro.evidence import schema


def test_the_schemas_are_found_in_the_source_tree() -> None:
    assert "CREATE TABLE run (" in schema.ddl(1)
    assert "urn:repro:schema:envelope:1" == schema.load("envelope-1")["$id"]


def test_every_schema_of_ours_is_a_schema() -> None:
    from jsonschema import Draft202012Validator

    names = [path.stem for path in schema.directory().glob("*.json")]
    assert {"envelope-1", "run-statement-1"} <= set(names)
    for name in names:
        Draft202012Validator.check_schema(schema.load(name))


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ([], "at the root"),
        ({"payload": "", "payloadType": "application/vnd.in-toto+json"}, "'signatures' is a required property"),
        ({"payload": 1, "payloadType": "application/vnd.in-toto+json", "signatures": []}, "at /payload: 1 is not"),
        (
            {"payload": "", "payloadType": "application/vnd.in-toto+json", "signatures": [{"sig": ""}, {"sig": 2}]},
            "at /signatures/1/sig: 2 is not",
        ),
    ],
)
def test_an_error_names_where_and_why(document: object, why: str) -> None:
    with pytest.raises(AlteredError, match=f"envelope-1.*{why}"):
        schema.validate(document, "envelope-1")


def test_a_pointer_is_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "odd-1.json").write_text(json.dumps({"additionalProperties": {"type": "string"}}))
    monkeypatch.setattr(schema, "directory", lambda: tmp_path)
    with pytest.raises(AlteredError, match="at /a~1b~0c: 1 is not"):
        schema.validate({"a/b~c": 1}, "odd-1")


def test_a_reference_is_never_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threat 65: jsonschema fetches a remote reference unless it is given a registry that cannot."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a connection was tried")

    from referencing.exceptions import Unresolvable

    (tmp_path / "remote-1.json").write_text(json.dumps({"$ref": "http://127.0.0.1:9/schema.json"}))
    monkeypatch.setattr(schema, "directory", lambda: tmp_path)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(Unresolvable):
        schema.validate({}, "remote-1")
