"""How completely a run's files were watched, in words for a reader who does not code."""

from __future__ import annotations

from typing import Final, Literal, cast

from repro.audit.report import Lineage, LineageStatus, Tone
from repro.audit.wording import counted, listed
from repro.evidence.model import Record

_SENTENCES: Final[dict[LineageStatus, str]] = {
    "complete": "Every file of code and data that the run opened is listed; installed software has lists of its own. "
    "Python and the operating system's kernel were watched independently of one another, and the record shows both "
    "awake in every Python process. What came over the network or through a pipe is no file.",
    "partial": "The list of files may be incomplete: the run may have read inputs that nobody declared and that this "
    "record does not name.",
    "none": "Nobody watched which files the run opened, so this record cannot say what it read.",
    "unknown": "The record does not say how the run's files were watched, so its list of files may be incomplete.",
}
_TONES: Final[dict[LineageStatus, Tone]] = {"complete": "good", "partial": "open", "none": "bad", "unknown": "open"}


def lineage(record: Record | None) -> Lineage:
    """Return how completely a run's files were watched, by the facts `data/lineage` and `data/lineage_layers`."""
    status = _status(record)
    gaps = [gap for gap in record.gaps if gap.topic == "lineage"] if record else []
    return Lineage(
        status=status,
        tone=_TONES[status],
        layers=(record.fact("data", "lineage_layers") if record else None) or "not known",
        sentence=_SENTENCES[status],
        why=tuple(f"{gap.subject}: {gap.reason}" for gap in gaps),
    )


def _status(record: Record | None) -> LineageStatus:
    """Return the recorded status; one that contradicts the record's own gaps is not believed."""
    stated = record.fact("data", "lineage") if record else None
    if record is None or stated not in ("complete", "partial", "none"):
        return "unknown"
    if stated == "complete" and any(gap.topic == "lineage" for gap in record.gaps):
        return "partial"
    return cast(LineageStatus, stated)


def caveat(which: Literal["original", "replay"], record: Record) -> str | None:
    """Return what an incomplete lineage takes from a verdict, in one sentence; `None` where it is complete."""
    found = lineage(record)
    if found.status == "complete":
        return None
    why = f" ({counted(len(found.why), 'reason')}: {listed(found.why, 1)})" if found.why else ""
    words = {"partial": "partial", "none": "missing", "unknown": "not known"}[found.status]
    return (
        f"The lineage of the {which} is {words}{why}: what was compared is equal or not as stated, "
        "but inputs that nobody declared may have gone unseen."
    )
