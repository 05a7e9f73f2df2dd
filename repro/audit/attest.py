"""The signed verdict: what a replay's `verdict.dsse.json` says, as schemas/verdict-1.json describes it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from repro import __version__
from repro.audit.divergence import Divergence, MetricComparison
from repro.audit.trace.document import trace_document
from repro.audit.verdict import Verdict, judge
from repro.errors import InconclusiveError
from repro.evidence import integrity, schema, seal
from repro.evidence.integrity import Integrity
from repro.evidence.keys import PublicKeys
from repro.evidence.model import Record
from repro.evidence.store import RunDirectory, Store


def attest(
    original: RunDirectory,
    replay: RunDirectory,
    store: Store,
    trusted: PublicKeys,
    *,
    changed_data: tuple[str, ...] = (),
) -> Verdict:
    """Examine a run and its replay, judge, and write the signed verdict beside the replay.

    Raises:
        AlteredError: One of the records is not what was signed.
        UntrustedError: One of them is not signed.
        InconclusiveError: Part of one is missing, or a newer repro wrote it.
        UsageError: The second is no replay of the first.
    """
    examined = [integrity.examine(directory, store, trusted) for directory in (original, replay)]
    records = [_record(one) for one in examined]
    verdict = judge(*records, changed_data=changed_data)
    judged_at = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    seal_verdict(verdict, original=examined[0], replay=examined[1], directory=replay, store=store, judged_at=judged_at)
    return verdict


def _record(examined: Integrity) -> Record:
    error = examined.error(allow_unknown_signer=True)
    if error is not None:
        raise error
    assert examined.record is not None  # noqa: S101 - no error, so there is a record
    return examined.record


def verdict_predicate(verdict: Verdict, *, original: Integrity, replay: Integrity, judged_at: str) -> dict[str, Any]:
    """Return the predicate `urn:repro:attestation:replay-verdict:1`.

    Args:
        verdict: What `judge` found.
        original: The examined original.
        replay: The examined replay.
        judged_at: When, UTC.
    """
    return {
        "procedure": {"name": verdict.procedure, "version": verdict.procedure_version},
        "verdict": str(verdict.word),
        "reason": str(verdict.reason) if verdict.reason else None,
        "steps": verdict.steps,
        "sentence": verdict.sentence,
        "judged_at": judged_at,
        "tool_version": __version__,
        "original": _run(original),
        "replay": _run(replay),
        "performed_by": {"relation": relation(original, replay)},
        "compared": list(verdict.compared),
        "differences": list(verdict.differences),
        "changed_data": list(verdict.changed_data),
        "caveats": list(verdict.caveats),
        "tolerances": [{"metric": name, "absolute": repr(limit)} for name, limit in verdict.tolerances],
        "metrics": [metric_document(metric) for metric in verdict.metrics],
        "trace": trace_document(verdict.trace),
        "outputs": [
            {
                "path": o.path,
                "library": o.library,
                "state": o.state,
                "original": o.left_sha256,
                "replay": o.right_sha256,
            }
            for o in verdict.outputs
        ],
    }


def seal_verdict(
    verdict: Verdict, *, original: Integrity, replay: Integrity, directory: RunDirectory, store: Store, judged_at: str
) -> Path:
    """Sign a verdict with the machine's key and write it beside the replay; an earlier one is replaced.

    Raises:
        InconclusiveError: One of the runs has no statement, so there is nothing that the verdict could be bound to.
    """
    predicate = verdict_predicate(verdict, original=original, replay=replay, judged_at=judged_at)
    schema.validate(predicate, "verdict-1")
    subjects = [(f"{run.run_id}/manifest.duckdb", manifest_digest(run)) for run in (original, replay)]
    seal.write_once(directory.verdict, seal.seal_statement(seal.REPLAY_VERDICT, subjects, predicate, store))
    return directory.verdict


def read_verdict(directory: RunDirectory, trusted: PublicKeys) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the predicate of a replay's signed verdict, and the keyids of the trusted keys that signed it.

    Raises:
        AlteredError: It is not what was signed.
        InconclusiveError: There is none.
    """
    try:
        data = directory.verdict.read_bytes()
    except FileNotFoundError:
        raise InconclusiveError(f"run {directory.run_id} has no verdict", hint="make one: repro replay RUN") from None
    envelope = seal.open_envelope(data, trusted)
    predicate: dict[str, Any] = seal.read_statement(envelope.payload, seal.REPLAY_VERDICT)["predicate"]
    schema.validate(predicate, "verdict-1")
    return predicate, envelope.signers


def manifest_digest(examined: Integrity) -> str:
    """Return the digest of a run's manifest, as its statement has it.

    Raises:
        InconclusiveError: The run has no statement.
    """
    subjects = (examined.statement or {}).get("subject", ())
    for subject in subjects:
        if subject["name"] == "manifest.duckdb":
            return f"sha256:{subject['digest']['sha256']}"
    raise InconclusiveError(f"run {examined.run_id} has no statement that names its manifest")


def relation(original: Integrity, replay: Integrity) -> str:
    """Say who replayed: the holder of the `same key` as the original's, of an `other key`, or `unknown`."""
    ours, theirs = ({*examined.signers, *examined.strangers} for examined in (original, replay))
    if not ours or not theirs:
        return "unknown"
    return "same key" if ours & theirs else "other key"


def metric_document(metric: MetricComparison) -> dict[str, Any]:
    """Return one metric's comparison as plain data: numbers that JSON would bend are strings."""
    return {
        "process_key": metric.process_key,
        "name": metric.name,
        "dtypes": list(metric.dtypes),
        "original_steps": metric.left_steps,
        "replay_steps": metric.right_steps,
        "compared_steps": metric.compared_steps,
        "equal_steps": metric.equal_steps,
        "missing_steps": metric.missing_steps,
        "largest_difference": None if metric.largest_difference is None else repr(metric.largest_difference),
        "first_difference": _divergence(metric.first) if metric.first else None,
    }


def _divergence(first: Divergence) -> dict[str, Any]:
    return {
        "step": first.step,
        "original": repr(first.left),
        "replay": repr(first.right),
        "original_bits": first.left_bits,
        "replay_bits": first.right_bits,
        "ulps": None if first.ulps is None else str(first.ulps),
    }


def _run(examined: Integrity) -> dict[str, Any]:
    return {
        "run_id": examined.run_id,
        "manifest_sha256": manifest_digest(examined),
        "record": str(examined.light),
        "signed_by": sorted({*examined.signers, *examined.strangers}),
    }
