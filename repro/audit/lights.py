"""The three lights of a report, never merged: what the record is, what the replay showed, what the policy says."""

from __future__ import annotations

from typing import Final

from repro.audit.caveats import lineage_caveats
from repro.audit.report import Light, Tone
from repro.audit.trace.words import first_sentence, rest_sentence, short_sentence
from repro.audit.verdict import Verdict, Word
from repro.audit.wording import counted
from repro.evidence.integrity import Integrity, RecordLight

_REPLAY_TONES: Final[dict[Word, Tone]] = {
    Word.MATCHED_EXACTLY: "good",
    Word.MATCHED_WITHIN_TOLERANCE: "good",
    Word.DID_NOT_MATCH: "bad",
}
_PERFORMED_BY: Final = {
    "same key": "Performed by the holder of the key that signed the record: a repetition, not an independent one.",
    "other key": "Performed by the holder of another key than the one that signed the record.",
    "unknown": "Who performed the replay is not known.",
}
_UNSEEN: Final = "Not all files that were read are known: inputs that nobody declared may have gone unseen."


def record_light(examined: Integrity) -> Light:
    """Return the light of a record's seal and signers."""
    light = examined.light
    tones: dict[RecordLight, Tone] = {RecordLight.INTACT: "good", RecordLight.ALTERED: "bad"}
    signed = (
        *(f"Signed with {keyid}, which this machine trusts." for keyid in examined.signers),
        *(f"Signed with {keyid}, which this machine does not know." for keyid in examined.strangers),
    )
    return Light(
        name="Record",
        word=str(light),
        tone=tones.get(light, "open"),
        sentence=_record_sentence(examined),
        why=(*signed, *(problem.sentence for problem in examined.problems)),
    )


def _record_sentence(examined: Integrity) -> str:
    if examined.light is RecordLight.ALTERED:
        return f"{counted(len(examined.problems), 'item')} of the record differ from what was signed or are missing."
    if examined.light is RecordLight.UNSIGNED:
        return "There is no signature over this record, so nothing says that it is what was recorded."
    items = f"All {signed_items(examined):,} items are as the signed statement lists them"
    if examined.light is RecordLight.UNKNOWN_SIGNER:
        return f"{items}, but this machine does not know the key that signed it."
    return f"{items}; it was signed with a key that this machine trusts."


def signed_items(examined: Integrity) -> int:
    """Count what a statement has digests for: the manifest, its tables and the stored objects."""
    predicate = (examined.statement or {}).get("predicate", {})
    return 1 + len(predicate.get("tables", ())) + len(predicate.get("objects", ()))


def replay_light(verdict: Verdict | None, performed_by: str) -> Light:
    """Return the light of a replay's verdict.

    Args:
        verdict: The verdict; `None` if there is no replay.
        performed_by: The relation of the two signers, as `repro.audit.attest.relation` tells it.
    """
    if verdict is None:
        sentence = "Nobody has run this training again, as far as this machine knows."
        return Light(name="Replay", word=str(Word.NOT_ATTEMPTED), tone="open", sentence=sentence, why=())
    sentence, details = _replay_sentence(verdict)
    return Light(
        name="Replay",
        word=verdict.label,
        tone=_REPLAY_TONES.get(verdict.word, "open"),
        sentence=sentence,
        why=(
            *details,
            *([verdict.evidence] if verdict.evidence else ()),
            *(each for each in verdict.caveats if each not in lineage_caveats(verdict.caveats)),
            *([_UNSEEN] if lineage_caveats(verdict.caveats) else ()),
            f"Compared by procedure {verdict.procedure}, version {verdict.procedure_version}.",
            _PERFORMED_BY[performed_by],
        ),
    )


def _replay_sentence(verdict: Verdict) -> tuple[str, tuple[str, ...]]:
    """Return what a reader of page one needs, and the details: tensors and kinds of differences are for engineers."""
    sentence, first = verdict.sentence.removesuffix(verdict.evidence).strip(), verdict.trace.first
    if first is None or sentence != first_sentence(first):
        return sentence, ()
    return short_sentence(first), (rest_sentence(first),)


def policy_light() -> Light:
    """Return the light of the policy: so far nothing can be held against one."""
    return Light(
        name="Policy",
        word="UNDETERMINED",
        tone="open",
        sentence="No policy was given, so no rule was met and none was missed.",
        why=(),
    )
