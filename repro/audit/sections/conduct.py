"""What the processes did: hyperparameters, settings, seeds, chance, which processes there were."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from repro.audit.difference import CHANCE, Difference, facts, keyed
from repro.evidence.model import Record

_OF_WORKERS: Final = re.compile(r"/torch/utils/data/_utils/worker\.py:\d+$")
"""Where PyTorch's loaders seed their workers."""


def hyperparameters(left: Record, right: Record) -> Iterator[Difference]:
    """Compare what the processes that both sides know of were configured with, value by value."""
    ours, theirs = (
        {(row.name, row.source, row.ordinal, row.process_key): row.value for row in record.hyperparameters}
        for record in (left, right)
    )
    shared = {row.process_key for row in left.hyperparameters} & {row.process_key for row in right.hyperparameters}
    where: dict[tuple[str, str, int, str | None, str | None], list[str]] = {}
    for key in sorted({*ours, *theirs}):
        name, source, ordinal, process_key = key
        if process_key in shared and ours.get(key) != theirs.get(key):
            where.setdefault((name, source, ordinal, ours.get(key), theirs.get(key)), []).append(process_key)
    for (name, source, ordinal, before, after), places in where.items():
        note = f"{source}, {_places(places)}" + (f", value {ordinal + 1} of this name" if ordinal else "")
        yield Difference(section="hyperparameters", name=name, left=before, right=after, note=note)


def settings(left: Record, right: Record) -> Iterator[Difference]:
    """Compare the mode of determinism, and settings of shared processes but for how closely they were watched."""
    yield from (
        replace(found, name=f"determinism {found.name}") for found in facts("settings", "determinism", left, right)
    )
    ours, theirs = (
        {
            (row.process_key, row.moment, row.name): row.value
            for row in record.settings
            if not row.name.startswith(("trace.", "replay."))
        }
        for record in (left, right)
    )
    shared = {row.process_key for row in left.settings} & {row.process_key for row in right.settings}
    where: dict[tuple[str, str | None, str | None], list[str]] = {}
    for key in sorted({*ours, *theirs}):
        process_key, moment, name = key
        if process_key in shared and ours.get(key) != theirs.get(key):
            where.setdefault((name, ours.get(key), theirs.get(key)), []).append(f"{process_key} at {moment}")
    for (name, before, after), places in where.items():
        yield Difference(section="settings", name=name, left=before, right=after, note=_places(places))


def _places(places: list[str]) -> str:
    return ", ".join(places[:4]) + (f" and {len(places) - 4} more" if len(places) > 4 else "")


def seeds(left: Record, right: Record) -> Iterator[Difference]:
    """Compare the calls that seeded generators."""
    yield from _streams("seeds", "call", _seeds(left, dealt=False), _seeds(right, dealt=False))


def _seeds(record: Record, *, dealt: bool) -> dict[tuple[str, str, int], str]:
    """Return the arguments of seeding calls: those that loaders deal out to their workers, or all others.

    A loader draws what it deals from a generator of its own process: it is another one in each run, or follows from a
    seed that is compared by itself. A worker seeds PyTorch with the same number as Python.
    """
    hands = {(row.process_key, row.argument) for row in record.seeds if _OF_WORKERS.search(row.site)}
    return {
        (row.process_key, row.function, row.ordinal): row.argument
        for row in record.seeds
        if ((row.process_key, row.argument) in hands) is dealt
    }


def randomness(left: Record, right: Record) -> Iterator[Difference]:
    """Compare what every run draws anew."""
    yield from facts(CHANCE, "randomness", left, right)
    ours, theirs = ({(e.process_key, e.stream, e.ordinal): e.value for e in r.entropy} for r in (left, right))
    yield from _streams(CHANCE, "draw", ours, theirs)
    yield from _streams(CHANCE, "call", _seeds(left, dealt=True), _seeds(right, dealt=True))
    states, others = (
        {f"{s.generator} state, {s.process_key} at {s.moment}": s.sha256 for s in r.generator_states}
        for r in (left, right)
    )
    yield from keyed(CHANCE, states, others)


def _streams(
    section: str, noun: str, left: Mapping[tuple[str, str, int], str], right: Mapping[tuple[str, str, int], str]
) -> Iterator[Difference]:
    """Report one difference per process and function: the first, and how many there are."""
    differing: dict[tuple[str, str], list[int]] = {}
    for key in sorted({*left, *right}):
        if left.get(key) != right.get(key):
            differing.setdefault(key[:2], []).append(key[2])
    for (process_key, function), ordinals in differing.items():
        key = (process_key, function, ordinals[0])
        note = f"first at {noun} {ordinals[0]}; {len(ordinals)} {noun}{'s' * (len(ordinals) > 1)} in {process_key}"
        yield Difference(section=section, name=function, left=left.get(key), right=right.get(key), note=note)


def processes(left: Record, right: Record) -> Iterator[Difference]:
    """Compare which Python processes there were."""

    def described(record: Record) -> dict[str, str]:
        return {
            row.process_key: f"Python {row.python_version}"
            + (f", rank {row.rank} of {row.world_size}" * (row.rank is not None))
            for row in record.processes
        }

    return keyed("processes", described(left), described(right))
