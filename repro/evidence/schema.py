"""The documents in `schemas/`: the manifest's DDL and the JSON Schemas. Nothing is ever fetched from anywhere else."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import repro
from repro.errors import AlteredError


@cache
def directory() -> Path:
    """Return where `schemas/` lies: inside an installed package, else at the root of the source tree."""
    package = Path(repro.__file__).parent
    installed = package / "_data" / "schemas"
    return installed if installed.is_dir() else package.parent / "schemas"


def ddl(version: int) -> str:
    """Return the SQL that makes the empty tables of a manifest."""
    return (directory() / f"manifest-{version}.sql").read_text(encoding="utf-8")


def load(name: str) -> dict[str, Any]:
    """Return one of our JSON Schemas, such as `run-statement-1`."""
    document: dict[str, Any] = json.loads((directory() / f"{name}.json").read_text(encoding="utf-8"))
    return document


def validate(document: object, name: str) -> None:
    """Check a document against one of our JSON Schemas.

    Raises:
        AlteredError: It does not fit; the message names where, as a JSON pointer, and why.
    """
    from jsonschema.exceptions import best_match  # type: ignore[import-untyped]

    error = best_match(_validator(name).iter_errors(document))
    if error is not None:
        pointer = "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in error.absolute_path)
        raise AlteredError(f"not a {name} document: at {pointer or 'the root'}: {error.message[:300]}")


@cache
def _validator(name: str) -> Any:
    from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
    from referencing import Registry

    # With its default registry, jsonschema would fetch a remote $ref over the network.
    return Draft202012Validator(load(name), registry=Registry())
