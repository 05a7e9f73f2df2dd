"""A comparison of training traces as plain data, as schemas/verdict-1.json describes it."""

from __future__ import annotations

from typing import Any

from repro.audit.trace.fields import FieldDifference
from repro.audit.trace.fingerprints import AnchorComparison, FirstDifference, TraceComparison
from repro.audit.trace.sketches import Drift


def trace_document(trace: TraceComparison) -> dict[str, Any] | None:
    """Return a comparison as plain data, numbers that JSON would bend as text; `None` where neither run was traced."""
    if not trace.left_traced and not trace.right_traced:
        return None
    return {
        "first_difference": _first(trace.first) if trace.first else None,
        "anchors": [_anchor(anchor) for anchor in trace.anchors],
    }


def _first(first: FirstDifference) -> dict[str, Any]:
    return {
        "process_key": first.process_key,
        "rank": first.rank,
        "anchor": first.anchor,
        "step": first.step,
        "cause": str(first.cause),
        "last_equal_step": first.last_equal,
        "adjacent": first.adjacent,
        "absorbed": first.absorbed,
        "effect_step": first.effect_step,
        "effect_field": first.effect_field,
        "shows_in": list(first.shows_in),
        "shared": first.shared,
        "traced_in": list(first.traced_in),
        "fields": [_field(difference) for difference in (first.what, *first.also)],
    }


def _field(difference: FieldDifference) -> dict[str, Any]:
    return {
        "field": difference.field,
        "place": difference.place,
        "differing": difference.differing,
        "of": difference.of,
        "tensors": [{"name": row.name, "shape": row.shape, "dtype": row.dtype} for row in difference.tensors],
    }


def _anchor(anchor: AnchorComparison) -> dict[str, Any]:
    return {
        "process_key": anchor.process_key,
        "rank": anchor.rank,
        "anchor": anchor.anchor,
        "original_steps": anchor.left_steps,
        "replay_steps": anchor.right_steps,
        "compared_steps": anchor.compared_steps,
        "equal_steps": anchor.equal_steps,
        "missing_steps": anchor.missing_steps,
        "missing_fields": list(anchor.missing_fields),
        "same_schedule": anchor.same_schedule,
        "fingerprints": anchor.fingerprints,
        "tensors": anchor.tensors,
        "first_differing_step": anchor.first.step if anchor.first else None,
        "unused_states": [
            {"field": state.field, "first_step": state.first_step, "steps": state.steps} for state in anchor.unused
        ],
        "distances": [_distance(drift) for drift in anchor.drift],
    }


def _distance(drift: Drift) -> dict[str, Any]:
    return {"step": drift.step, "relative": None if drift.relative is None else f"{drift.relative:.3e}"}
