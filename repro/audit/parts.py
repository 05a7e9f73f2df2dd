"""The parts of a run on several nodes, as they lie in the store now: are they what was merged, and does it follow?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import repro
from repro.evidence import integrity, joined, statement, tables
from repro.evidence.joined import NamedPart, Part
from repro.evidence.keys import PublicKeys
from repro.evidence.model import Record
from repro.evidence.store import RunDirectory, Store

PartState = Literal["as it was merged", "altered", "not here", "not what the merged run holds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartNow:
    """What became of a part."""

    node: int
    run_id: str
    state: PartState
    sentence: str
    """What is wrong with it; empty where nothing is."""


def parts_now(record: Record, store: Store, trusted: PublicKeys) -> tuple[PartNow, ...]:
    """Look at each part of a merged run; nothing for any other run.

    A part is what was merged if it is what was signed and has the manifest that the merged run names. Where all parts
    are there, they are merged once more: what comes out must be what was sealed, unless another version merged it.
    """
    named = joined.named_parts(record)
    looked = [_look(part, store, trusted) for part in named]
    found = [part for part, _ in looked if part is not None]
    if found and len(found) == len(named) and (wrong := _does_not_follow(record, found)):
        return tuple(
            PartNow(node=part.node, run_id=part.run_id, state="not what the merged run holds", sentence=wrong)
            for part in named
        )
    return tuple(state for _, state in looked)


def _look(named: NamedPart, store: Store, trusted: PublicKeys) -> tuple[Part | None, PartNow]:
    def state(word: PartState, sentence: str = "") -> PartNow:
        return PartNow(node=named.node, run_id=named.run_id, state=word, sentence=sentence)

    directory = RunDirectory(path=store.runs_path / named.run_id)
    if not directory.path.is_dir():
        return None, state("not here")
    examined = integrity.examine(directory, store, trusted)
    if examined.problems:
        return None, state("altered", examined.problems[0].sentence)
    subjects = (examined.statement or {}).get("subject", ())
    digest = next((f"sha256:{s['digest']['sha256']}" for s in subjects if s["name"] == "manifest.duckdb"), "")
    if examined.record is None or digest != named.manifest_digest:
        return None, state("altered", f"its manifest is not the one that was merged, {named.manifest_digest}")
    return Part(record=examined.record, manifest_digest=digest), state("as it was merged")


def _does_not_follow(record: Record, parts: Sequence[Part]) -> str:
    """Say in which tables a merged run is not what its parts come to; nothing where it is."""
    if record.run.recorder_version != repro.__version__:
        return ""
    absent = next((g.reason for g in record.gaps if g.topic == joined.TOPIC and g.subject.startswith("node ")), "")
    run = record.run
    again = joined.merge(parts, run.run_id, run.recorder_version, absent=absent, replay_of=run.replay_of)
    expected, found = tables.digests(statement.storable(again)), tables.digests(record)
    others = [name for name in found if found[name] != expected[name]]
    return f"merged again, the parts give other rows in {', '.join(others)}" if others else ""
