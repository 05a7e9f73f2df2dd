"""The seal: a DSSE v1 envelope over an in-toto Statement v1, signed with Ed25519.

The signature is over bytes, `PAE = "DSSEv1" SP len(type) SP type SP len(payload) SP payload` with lengths in bytes,
never over JSON that somebody parsed and wrote anew. Specifications: DSSE 1.0.2, in-toto attestation v1.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from repro.errors import AlteredError, ExecutionError, InconclusiveError
from repro.evidence import canonical, keys, manifest, schema, statement, tables
from repro.evidence.keys import PublicKeys, SigningKey
from repro.evidence.model import Record
from repro.evidence.store import RunDirectory, Store

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
TRAINING_RUN: Final = "urn:repro:attestation:training-run:1"
REPLAY_VERDICT: Final = "urn:repro:attestation:replay-verdict:1"
AUDIT_REPORT: Final = "urn:repro:attestation:audit-report:1"

_URL_SAFE = str.maketrans("-_", "+/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What an envelope holds, after its signatures were tried."""

    payload: bytes
    signers: tuple[str, ...]
    """The keyid of each trusted key that signed, once each."""
    strangers: tuple[str, ...]
    """The keyids, as claimed, of signatures that no trusted key verifies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """How a run was sealed."""

    keyid: str
    new_key: str | None
    """The keyid, if sealing this run made the machine's key."""


def pae(payload: bytes, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """Return the bytes that are signed: DSSE's pre-authentication encoding."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(payload: bytes, key: SigningKey) -> bytes:
    """Return an envelope around a payload, as canonical JSON."""
    signature = {"keyid": key.keyid, "sig": base64.b64encode(key.sign(pae(payload))).decode()}
    envelope = {"payload": base64.b64encode(payload).decode(), "payloadType": PAYLOAD_TYPE, "signatures": [signature]}
    return canonical.dumps(envelope)


def open_envelope(data: bytes, trusted: PublicKeys) -> Envelope:
    """Check an envelope's signatures, and only then return its payload.

    Every trusted key is tried on every signature: the keyid is only a hint. But a signature that names a trusted key
    and is not that key's is a forgery or damage, whatever else the envelope holds.

    Raises:
        AlteredError: Not an envelope of ours, or a signature is wrong.
    """
    document = canonical.loads(data)
    schema.validate(document, "envelope-1")
    payload = decode_base64(document["payload"])
    message = pae(payload)
    signers: dict[str, None] = {}
    strangers: dict[str, None] = {}
    for signature in document["signatures"]:
        claimed, raw = signature.get("keyid", ""), decode_base64(signature["sig"])
        made_by = [keyid for keyid, public in trusted.items() if _fits(public, raw, message)]
        if not made_by and claimed in trusted:
            raise AlteredError(f"the signature of {claimed} does not fit what it signs")
        signers.update(dict.fromkeys(made_by))
        if not made_by:
            strangers[claimed] = None
    return Envelope(payload=payload, signers=tuple(signers), strangers=tuple(strangers))


def decode_base64(text: str) -> bytes:
    """Decode standard or URL-safe base64, accepting one text per value.

    Raises:
        AlteredError: White space, mixed alphabets, missing padding, or bits set where none belong.
    """
    mixed = any(c in text for c in "-_") and any(c in text for c in "+/")
    standard = text.translate(_URL_SAFE)
    try:
        raw = base64.b64decode(standard, validate=True)
    except (binascii.Error, ValueError):
        raise AlteredError("the envelope holds text that is not base64") from None
    if mixed or base64.b64encode(raw).decode() != standard:
        raise AlteredError("the envelope holds base64 that is not in its one strict form")
    return raw


def _fits(public: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        public.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def read_statement(payload: bytes, predicate_type: str) -> dict[str, Any]:
    """Parse the payload of an envelope that was opened, as a statement of the type that is expected here.

    Raises:
        AlteredError: Not a statement, or one of another type: a verdict is no run, whoever signed it.
        InconclusiveError: A newer version of repro wrote it.
    """
    document = canonical.loads(payload)
    if not isinstance(document, dict) or document.get("_type") != STATEMENT_TYPE:
        raise AlteredError("the payload is not an in-toto statement of version 1")
    found, family = str(document.get("predicateType"))[:100], predicate_type.rpartition(":")[0]
    if found != predicate_type:
        if found.startswith(f"{family}:"):
            raise InconclusiveError(f"statements of type {found!r} are unknown here", hint="it needs a newer repro")
        raise AlteredError(f"the statement is of type {found!r}, expected is {predicate_type!r}")
    return document


def run_statement(
    record: Record, manifest_digest: str, table_digests: Mapping[str, str], store: Store
) -> dict[str, Any]:
    """Return the statement over a run: what an auditor asks first, readable with neither DuckDB nor repro."""
    return {
        "_type": STATEMENT_TYPE,
        "predicateType": TRAINING_RUN,
        "predicate": statement.predicate(record, table_digests, store.objects),
        "subject": statement.subjects(record, manifest_digest),
    }


def seal_run(record: Record, directory: RunDirectory, store: Store) -> Sealed:
    """Write a run's manifest, then the signed statement over it. A run without its statement is not sealed.

    Raises:
        UsageError: The machine's key is exposed or unusable.
        ExecutionError: Something cannot be written.
    """
    record = statement.storable(record)
    key, created = keys.machine_key(store)
    manifest.write(record, directory.manifest)
    digest, _ = canonical.digest_file(directory.manifest)
    document = run_statement(record, digest, tables.digests(record), store)
    store.objects.sync(document["predicate"]["objects"])
    write_once(directory.statement, sign(canonical.dumps(document), key))
    return Sealed(keyid=key.keyid, new_key=key.keyid if created else None)


def seal_statement(
    predicate_type: str, subjects: Sequence[tuple[str, str]], predicate: Mapping[str, Any], store: Store
) -> bytes:
    """Return an envelope over a statement of our own, signed with the machine's key.

    Args:
        predicate_type: `REPLAY_VERDICT` or `AUDIT_REPORT`.
        subjects: Name and digest (`sha256:…`) of each thing that the statement is about.
        predicate: What it says; canonical JSON, so no floats.
        store: Whose key signs.
    """
    document = {
        "_type": STATEMENT_TYPE,
        "predicateType": predicate_type,
        "predicate": dict(predicate),
        "subject": [statement.subject(name, digest) for name, digest in subjects],
    }
    key, _ = keys.machine_key(store)
    return sign(canonical.dumps(document), key)


def write_once(path: Path, data: bytes) -> None:
    """Write a file that appears complete under its name, mode 0444, and survives a power failure.

    Raises:
        ExecutionError: It cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o444)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
        manifest.sync_directory(path.parent)
    except OSError as error:
        raise ExecutionError(f"cannot write {path}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)
