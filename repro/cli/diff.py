"""`repro diff`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from repro.errors import DIFFERENT, SAME

if TYPE_CHECKING:
    from repro.audit.diff import Diff
    from repro.audit.difference import Difference
    from repro.audit.divergence import MetricComparison
    from repro.audit.trace.fingerprints import AnchorComparison, TraceComparison


def diff(
    left: Annotated[str, typer.Argument(metavar="A", help="A run id, a unique prefix of one, @last or @prev.")],
    right: Annotated[str, typer.Argument(metavar="B", help="Likewise.")],
    everything: Annotated[bool, typer.Option("--all", help="List also what every run draws anew.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Name what differs between two runs, and from which step on.

    Exits 0 if nothing differs, 1 if something does.

    Example: repro diff @prev @last
    """
    from repro.audit.diff import diff as compare
    from repro.cli import terminal
    from repro.evidence import integrity, trust
    from repro.evidence.store import Store, home

    store = Store(home())
    trusted = trust.trusted_keys(store)
    records = [integrity.load(store.find(run), store, trusted, allow_unknown_signer=True) for run in (left, right)]
    compared = compare(*records)
    if json:
        terminal.answer(document(compared))
    else:
        for line in lines(compared, everything=everything):
            print(terminal.plain(line))
    sys.exit(SAME if compared.same else DIFFERENT)


def document(compared: Diff) -> dict[str, object]:
    """Return a comparison as plain data."""
    import dataclasses

    return {
        "left": compared.left_run_id,
        "right": compared.right_run_id,
        "same": compared.same,
        "differences": [dataclasses.asdict(difference) for difference in compared.differences],
        "metrics": [dataclasses.asdict(metric) for metric in compared.metrics],
        "trace": dataclasses.asdict(compared.trace),
        "goes_on": [list(each) for each in compared.goes_on],
        "operations": [dataclasses.asdict(each) for each in compared.operations],
        "not_compared": list(compared.not_compared),
        "replicas": [{"run": run_id, "sentence": sentence} for run_id, sentence in compared.replicas],
    }


def lines(compared: Diff, *, everything: bool) -> Iterator[str]:
    """Say a comparison in lines: each section that differs, then the metrics and the training trace."""
    from repro.audit.difference import CHANCE
    from repro.audit.trace.operations import operations_sentence

    same = "nothing differs but chance" if compared.differences else "nothing differs"
    yield f"{compared.left_run_id} → {compared.right_run_id}: {same if compared.same else 'different'}"
    for section, found in groupby(compared.differences, key=lambda difference: difference.section):
        differences = list(found)
        if section == CHANCE and not (everything or _chance_is_the_cause(compared)):
            yield f"\n{section}: {len(differences)} things that every run draws anew (--all lists them)"
            continue
        yield f"\n{section}"
        yield from (f"  {_difference(difference)}" for difference in differences)
    if compared.metrics:
        yield "\nmetrics"
        yield from (f"  {_metric(metric)}" for metric in compared.metrics)
    if compared.trace.anchors:
        yield "\ntrace"
        yield from (f"  {line}" for line in _trace(compared.trace))
    if compared.goes_on:
        yield "\ngoes on from other runs"
        yield from (f"  {run_id}: {phrase}" for run_id, phrase in compared.goes_on)
    if compared.replicas:
        yield "\nweights across ranks"
        yield from (f"  {run_id}: {sentence}" for run_id, sentence in compared.replicas)
    if compared.operations:
        yield "\noperations"
        yield from (f"  {operations_sentence(each)}" for each in compared.operations)
    if compared.not_compared:
        yield "\nnot compared"
        yield from (f"  {sentence}" for sentence in compared.not_compared)


def _chance_is_the_cause(compared: Diff) -> bool:
    """Say whether the results differ and nothing but chance can have done it."""
    from repro.audit.difference import CHANCE
    from repro.audit.sections.model import is_of_values

    results = (CHANCE, "checkpoints", "outputs", "outcome", "gaps")
    return not compared.same and all(d.section in results or is_of_values(d) for d in compared.differences)


def _difference(difference: Difference) -> str:
    sides = (difference.left, difference.right)
    change = f"  {_value(sides[0])} → {_value(sides[1])}" if sides != (None, None) else ""
    return f"{difference.name}{change}{f'  ({difference.note})' if difference.note else ''}"


def _value(text: str | None) -> str:
    from repro.cli.terminal import shorten

    return "none" if text is None else shorten(text, 80)


def _metric(metric: MetricComparison) -> str:
    name = f"{metric.name} ({metric.process_key})"
    if metric.equal:
        return f"{name}: equal bit for bit at {metric.compared_steps} of {metric.compared_steps} steps"
    missing = f", {metric.missing_steps} steps on one side only" if metric.missing_steps else ""
    if metric.first is None:
        return f"{name}: equal at the {metric.compared_steps} common steps{missing}"
    first = metric.first
    apart = f", {first.ulps} ulp apart" if first.ulps is not None else ""
    return (
        f"{name}: differs from step {first.step} on: "
        f"{first.left!r} ({first.left_bits}) → {first.right!r} ({first.right_bits}){apart}; "
        f"{metric.equal_steps} of {metric.compared_steps} steps equal{missing}"
    )


def _trace(trace: TraceComparison) -> Iterator[str]:
    """Say where the traces part, what differs at that step, and how each anchor of each process came out."""
    from repro.audit.trace.words import extent_words, field_words, first_sentence, unused_phrases

    if trace.first is not None:
        yield first_sentence(trace.first)
        for field in trace.first.also:
            extent = extent_words(field)
            yield f"  then {field_words(field.field)}{f': {extent}' if extent else ''}"
    yield from map(_anchor, trace.anchors)
    yield from unused_phrases(trace)


def _anchor(anchor: AnchorComparison) -> str:
    from repro.audit.trace.words import drift_phrase

    head = f"{anchor.anchor} ({anchor.process_key})"
    if not anchor.compared_steps:
        return f"{head}: no step that both runs traced, of {anchor.left_steps} and {anchor.right_steps}"
    missing = f"; {anchor.missing_steps} traced on one side only" * bool(anchor.missing_steps)
    fields = f"; on one side only: {', '.join(anchor.missing_fields)}" * bool(anchor.missing_fields)
    steps = f"{anchor.equal_steps} of {anchor.compared_steps} traced steps equal"
    drift = drift_phrase(anchor)
    apart = f"; distance of the weights, by an estimate: {drift}" if drift else ""
    return f"{head}: {steps}{missing}{fields}{apart}"
