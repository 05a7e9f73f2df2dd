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
    from repro.audit.divergence import MetricComparison


def diff(
    left: Annotated[str, typer.Argument(metavar="A", help="A run id, a unique prefix of one, @last or @prev.")],
    right: Annotated[str, typer.Argument(metavar="B", help="Likewise.")],
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
        for line in lines(compared):
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
        "not_compared": list(compared.not_compared),
    }


def lines(compared: Diff) -> Iterator[str]:
    """Say a comparison in lines: each section that differs, then the metrics."""
    from repro.audit.diff import CHANCE

    same = "nothing differs but chance" if compared.differences else "nothing differs"
    yield f"{compared.left_run_id} → {compared.right_run_id}: {same if compared.same else 'different'}"
    for section, differences in groupby(compared.differences, key=lambda difference: difference.section):
        yield f"\n{section}{' (drawn anew by every run; it counts by its effect alone)' if section == CHANCE else ''}"
        for d in differences:
            change = f"{_value(d.left)} → {_value(d.right)}" if (d.left, d.right) != (None, None) else ""
            yield f"  {d.name}  {change}{'  (' + d.note + ')' if d.note else ''}"
    if compared.metrics:
        yield "\nmetrics"
        yield from (f"  {_metric(metric)}" for metric in compared.metrics)
    if compared.not_compared:
        yield "\nnot compared"
        yield from (f"  {sentence}" for sentence in compared.not_compared)


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
