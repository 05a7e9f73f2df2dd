"""Is a run what was signed, by whom, and is it complete?"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from repro.errors import AlteredError, InconclusiveError, ReproError, UntrustedError
from repro.evidence import canonical, manifest, schema, seal, statement, tables
from repro.evidence.keys import PublicKeys
from repro.evidence.model import SCHEMA_VERSION, Record
from repro.evidence.plain import open_plain
from repro.evidence.seal import Envelope
from repro.evidence.store import RunDirectory, Store


class RecordLight(StrEnum):
    """The first of the three lights: what the record is."""

    INTACT = "INTACT"
    UNKNOWN_SIGNER = "INTACT-UNKNOWN-SIGNER"
    """Every digest is as the statement says, but nobody whom this machine trusts signed the statement."""
    UNSIGNED = "UNSIGNED"
    ALTERED = "ALTERED"
    """Something differs from what was signed, or is not there any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is not as it was signed."""

    member: str
    """The file, relative to the run's directory or, for `objects/…`, to the store."""
    kind: Literal["altered", "missing"]
    sentence: str
    expected: str | None = None
    """The digest that was signed, where it is about one."""
    found: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Integrity:
    """The answer of `examine`."""

    run_id: str
    light: RecordLight
    problems: tuple[Problem, ...]
    signers: tuple[str, ...]
    """The keyid of each trusted key that signed."""
    strangers: tuple[str, ...]
    """The keyids, as claimed, of signatures by keys that this machine does not know."""
    statement: Mapping[str, Any] | None
    """The statement, where it could be read; believe it no more than `light` says."""
    record: Record | None
    """The record, read from the very bytes that were hashed; `None` where these are not what was signed."""

    def error(self, *, allow_unknown_signer: bool = False) -> ReproError | None:
        """Return the exception that says why this record must not be used, or `None`."""
        see_all = f"see all of it: repro verify {self.run_id}"
        altered = [problem.sentence for problem in self.problems if problem.kind == "altered"]
        if altered:
            return AlteredError(f"run {self.run_id} was altered: {_first_of(altered)}", hint=see_all)
        if not self.signers and not self.strangers:
            return UntrustedError(f"run {self.run_id} is not signed", hint="it was never sealed: record it again")
        if self.problems:
            gone = _first_of([problem.sentence for problem in self.problems])
            return InconclusiveError(f"run {self.run_id} is not complete: {gone}", hint=see_all)
        if not self.signers and not allow_unknown_signer:
            names = ", ".join(self.strangers) or "a key without a name"
            return UntrustedError(
                f"run {self.run_id} is signed by nobody whom this machine trusts: {names}",
                hint="if you know that key: repro keys trust FILE.pub, or --trust FILE.pub for once",
            )
        return None


def examine(directory: RunDirectory, store: Store, trusted: PublicKeys) -> Integrity:
    """Check a run against its statement and collect every problem there is.

    The signature comes first: after a wrong one nothing else is looked at, for there is nothing to hold it against.

    Raises:
        InconclusiveError: A newer version of repro wrote this run.
    """
    try:
        envelope = _envelope(directory, trusted)
        document = _statement(envelope)
    except FileNotFoundError:
        return _concluded(directory, RecordLight.UNSIGNED, (_missing("statement.dsse.json"),))
    except AlteredError as error:
        problem = _altered("statement.dsse.json", f"statement.dsse.json: {error.message}")
        return _concluded(directory, RecordLight.ALTERED, (problem,))
    record, problems = _manifest(directory, document)
    problems += _of_statement(directory, document)
    if record is not None:
        problems += _of_content(record, document["predicate"], store)
    problems += _of_objects(document["predicate"]["objects"], store)
    light = _light(envelope, problems)
    return _concluded(directory, light, tuple(problems), envelope=envelope, document=document, record=record)


def load_part(directory: RunDirectory, trusted: PublicKeys, *, only: Collection[str]) -> Record:
    """Return some tables of a run whose manifest is what was signed; its objects are not looked at.

    Args:
        directory: Of the run.
        trusted: Keys of others; who signed is not asked, only whether the statement and the manifest belong together.
        only: Names of tables; the others are left empty.

    Raises:
        AlteredError: The statement or the manifest is not what was signed.
        InconclusiveError: One is missing, or a newer repro wrote it.
    """
    try:
        document = _statement(_envelope(directory, trusted))
    except FileNotFoundError:
        raise InconclusiveError(f"run {directory.run_id} is not sealed", hint="record it again") from None
    record, problems = _manifest(directory, document, only)
    problems += _of_statement(directory, document)
    if record is None or problems:
        raise AlteredError(f"run {directory.run_id}: {problems[0].sentence}")
    return record


def load(
    directory: RunDirectory,
    store: Store,
    trusted: PublicKeys,
    *,
    allow_unknown_signer: bool = False,
) -> Record:
    """Return the record of a run that is what was signed.

    Raises:
        AlteredError: Something differs from what was signed.
        UntrustedError: It is not signed, or (unless allowed) by nobody whom this machine trusts.
        InconclusiveError: Part of it is missing, or a newer repro wrote it.
    """
    integrity = examine(directory, store, trusted)
    error = integrity.error(allow_unknown_signer=allow_unknown_signer)
    if error is not None:
        raise error
    assert integrity.record is not None  # noqa: S101 - no problem, so there is a record
    return integrity.record


def _first_of(sentences: list[str]) -> str:
    more = len(sentences) - 1
    return sentences[0] + (f" (and {more} more)" if more else "")


def _missing(member: str, expected: str | None = None) -> Problem:
    return Problem(member=member, kind="missing", sentence=f"{member} is missing", expected=expected)


def _altered(member: str, sentence: str, *, expected: str | None = None, found: str | None = None) -> Problem:
    return Problem(member=member, kind="altered", sentence=sentence, expected=expected, found=found)


def _envelope(directory: RunDirectory, trusted: PublicKeys) -> Envelope:
    with open_plain(directory.statement, "it") as file:
        return seal.open_envelope(file.read(canonical.MAX_BYTES + 1), trusted)


def _statement(envelope: Envelope) -> dict[str, Any]:
    document = seal.read_statement(envelope.payload, seal.TRAINING_RUN)
    predicate = document.get("predicate")
    version = predicate.get("schema_version") if isinstance(predicate, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        message = f"this run has schema version {version}, this repro reads version {SCHEMA_VERSION}"
        raise InconclusiveError(message, hint="it needs a newer repro")
    schema.validate(document, "run-statement-1")
    return document


def _manifest(
    directory: RunDirectory, document: Mapping[str, Any], only: Collection[str] = ()
) -> tuple[Record | None, list[Problem]]:
    name = directory.manifest.name
    signed = next((s["digest"]["sha256"] for s in document["subject"] if s["name"] == name), None)
    expected = f"sha256:{signed}" if signed else None
    if not os.path.lexists(directory.manifest):
        return None, [_missing(name, expected)]
    try:
        with manifest.private_copy(directory.manifest) as (copy, found):
            if found != expected:
                sentence = f"{name} has the digest {found}, the statement says {expected}"
                return None, [_altered(name, sentence, expected=expected, found=found)]
            return manifest.read_copy(copy, only=only), []
    except AlteredError as error:
        return None, [_altered(name, error.message, expected=expected)]


def _of_statement(directory: RunDirectory, document: Mapping[str, Any]) -> Iterator[Problem]:
    signed = document["predicate"]["run_id"]
    if signed != directory.run_id:
        sentence = f"statement.dsse.json belongs to run {signed}, not to {directory.run_id}"
        yield _altered("statement.dsse.json", sentence)
    names = [subject["name"] for subject in document["subject"]]
    if len(set(names)) != len(names):
        yield _altered("statement.dsse.json", "statement.dsse.json names a subject twice")


def _of_content(record: Record, predicate: Mapping[str, Any], store: Store) -> Iterator[Problem]:
    """Hold what the statement says against what the manifest holds."""
    derived = statement.predicate(record, tables.digests(record), store.objects)
    for name, table in derived["tables"].items():
        expected, found = predicate["tables"][name]["sha256"], table["sha256"]
        if found != expected:
            sentence = f"table {name} of manifest.duckdb has the digest {found}, the statement says {expected}"
            yield _altered("manifest.duckdb", sentence, expected=expected, found=found)
        elif table != predicate["tables"][name]:
            yield _altered(
                "statement.dsse.json", f"statement.dsse.json and manifest.duckdb disagree about table {name}"
            )
    for name in sorted((derived.keys() | predicate.keys()) - {"objects", "tables"}):
        if derived.get(name) != predicate.get(name):
            yield _altered("statement.dsse.json", f"statement.dsse.json and manifest.duckdb disagree about {name}")
    for digest in sorted(set(derived["objects"]) - set(predicate["objects"])):
        yield _altered("statement.dsse.json", f"statement.dsse.json leaves out the object {digest}", expected=digest)


def _of_objects(digests: Sequence[str], store: Store) -> Iterator[Problem]:
    for digest in digests:
        member = store.objects.path(digest).relative_to(store.root).as_posix()
        try:
            found = store.objects.digest(digest)
        except InconclusiveError:
            yield _missing(member, digest)
        except AlteredError as error:
            yield _altered(member, error.message, expected=digest)
        else:
            if found != digest:
                yield _altered(member, f"{member} has the digest {found}", expected=digest, found=found)


def _light(envelope: Envelope, problems: Sequence[Problem]) -> RecordLight:
    if problems:
        return RecordLight.ALTERED
    if envelope.signers:
        return RecordLight.INTACT
    return RecordLight.UNKNOWN_SIGNER if envelope.strangers else RecordLight.UNSIGNED


def _concluded(
    directory: RunDirectory,
    light: RecordLight,
    problems: tuple[Problem, ...],
    *,
    envelope: Envelope | None = None,
    document: Mapping[str, Any] | None = None,
    record: Record | None = None,
) -> Integrity:
    return Integrity(
        run_id=directory.run_id,
        light=light,
        problems=problems,
        signers=envelope.signers if envelope else (),
        strangers=envelope.strangers if envelope else (),
        statement=document,
        record=record,
    )
