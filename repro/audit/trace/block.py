"""The part of a report that tells how the training traces of record and replay compare."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from repro.audit.report import Tone, Trace, TracedAnchor
from repro.audit.trace.fingerprints import AnchorComparison, FirstDifference, TraceComparison
from repro.audit.trace.words import (
    cause_phrase,
    drift_phrase,
    extent_words,
    field_words,
    place_words,
    short_phrases,
    tensor_words,
    trace_evidence,
    unused_phrases,
    where_sentence,
)
from repro.audit.verdict import Verdict
from repro.audit.wording import capital, listed

MAX_ANCHORS: Final = 32
MAX_NOTES: Final = 8


def trace_block(verdict: Verdict | None) -> Trace | None:
    """Return what a report says of the training traces; `None` where neither run was traced."""
    if verdict is None or not verdict.trace.anchors:
        return None
    trace = verdict.trace
    # What differs goes first, lest it be left out.
    anchors = sorted(trace.anchors, key=lambda anchor: anchor.first is None)
    return Trace(
        tone=_tone(trace),
        sentence=_sentence(trace),
        facts=tuple(_facts(trace, trace.first)) if trace.first else (),
        notes=tuple(_notes(trace)),
        anchors=tuple(_row(anchor) for anchor in anchors[:MAX_ANCHORS]),
        anchors_left_out=max(0, len(anchors) - MAX_ANCHORS),
    )


def _tone(trace: TraceComparison) -> Tone:
    if not trace.equal:
        return "bad"
    return "good" if any(anchor.compared_steps for anchor in trace.anchors) else "open"


def _sentence(trace: TraceComparison) -> str:
    if trace.first is not None:
        return where_sentence(trace.first)
    evidence = trace_evidence(trace)
    if not evidence:
        return "No step was traced in both runs, so none could be compared."
    return f"At no traced step do the runs differ: {evidence}."


def _facts(trace: TraceComparison, first: FirstDifference) -> Iterator[tuple[str, str]]:
    """Yield what is known about the first difference, in the order in which a reader asks."""
    extent = extent_words(first.what)
    yield "Where", place_words(first)
    yield "In what", field_words(first.what.field) + (f", {extent.partition(':')[0]}" if extent else "")
    if first.what.tensors:
        more = first.what.differing - len(first.what.tensors)
        named = ", ".join(map(tensor_words, first.what.tensors))
        yield "Tensors", named + (f" and {more:,} more" if more else "")
    yield "Kind", capital(cause_phrase(first))
    yield "Equal before", "nothing" if first.last_equal is None else f"up to step {first.last_equal:,}"
    if first.also:
        yield "Then", listed([_field(field.field, extent_words(field)) for field in first.also], 8)
    anchor = next(a for a in trace.anchors if (a.process_key, a.anchor) == (first.process_key, first.anchor))
    if anchor.drift:
        yield "Distance of the weights", f"by an estimate, {drift_phrase(anchor)}"


def _field(field: str, extent: str) -> str:
    return field_words(field) + (f" ({extent.partition(':')[0]})" if extent else "")


def _notes(trace: TraceComparison) -> Iterator[str]:
    found = [capital(phrase) + "." for phrase in (*short_phrases(trace), *unused_phrases(trace))]
    yield from found[:MAX_NOTES]
    if len(found) > MAX_NOTES:
        yield f"And {len(found) - MAX_NOTES:,} more: see the table of checks."


def _row(anchor: AnchorComparison) -> TracedAnchor:
    return TracedAnchor(
        process_key=anchor.process_key,
        rank=anchor.rank,
        anchor=anchor.anchor,
        original_steps=anchor.left_steps,
        replay_steps=anchor.right_steps,
        compared_steps=anchor.compared_steps,
        equal_steps=anchor.equal_steps,
        first_difference=anchor.first.step if anchor.first else None,
    )
