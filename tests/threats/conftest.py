"""A sealed run to attack, and what an attacker does to it. The numbers are those of the threat catalogue."""

from __future__ import annotations

import base64
import json
import runpy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from repro.evidence import canonical, integrity, keys, seal, trust
from repro.evidence.integrity import Integrity
from repro.evidence.model import Record
from repro.evidence.objects import Objects
from repro.evidence.store import RunDirectory, Store

_sample: Callable[[str, Objects], Record] = runpy.run_path(str(Path(__file__).parents[1] / "golden" / "make.py"))[
    "sample"
]


@dataclass(frozen=True)
class Victim:
    """A sealed run, with the moves of an attacker who can write to it."""

    store: Store
    directory: RunDirectory
    record: Record

    @property
    def trusted(self) -> Mapping[str, Ed25519PublicKey]:
        return trust.trusted_keys(self.store)

    @property
    def keyid(self) -> str:
        return keys.machine_key(self.store)[0].keyid

    def examine(self) -> Integrity:
        return integrity.examine(self.directory, self.store, self.trusted)

    def exit_code(self) -> int:
        """Return the exit code that `repro verify` gives."""
        error = self.examine().error()
        return error.exit_code if error else 0

    def write(self, path: Path, data: bytes) -> None:
        path.chmod(0o644)
        path.write_bytes(data)

    def envelope(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.directory.statement.read_bytes())
        return document

    def payload(self) -> bytes:
        return base64.b64decode(self.envelope()["payload"])

    def change_envelope(self, **members: Any) -> None:
        self.write(self.directory.statement, json.dumps({**self.envelope(), **members}).encode())

    def sign(self, payload: bytes) -> None:
        """Put another payload, rightly signed by the machine's key: the signer is the attacker, or was fooled."""
        self.write(self.directory.statement, seal.sign(payload, keys.machine_key(self.store)[0]))

    def resign(self, change: Callable[[dict[str, Any]], None]) -> None:
        document = json.loads(self.payload())
        change(document)
        self.sign(canonical.dumps(document))


@pytest.fixture
def make_victim(tmp_path: Path) -> Callable[[], Victim]:
    store = Store(tmp_path / "home")

    def make() -> Victim:
        directory = store.create_run()
        record = _sample(directory.run_id, store.objects)
        seal.seal_run(record, directory, store)
        return Victim(store=store, directory=directory, record=record)

    return make


@pytest.fixture
def victim(make_victim: Callable[[], Victim]) -> Victim:
    return make_victim()
