"""Metrics that were declared unjudged when the run was recorded: compared and shown, they decide nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from repro.audit.divergence import MetricComparison
from repro.audit.wording import counted, listed, metric_phrase
from repro.evidence import judging
from repro.evidence.model import Record

Metrics = tuple[MetricComparison, ...]


def parted(metrics: Iterable[MetricComparison], original: Record) -> tuple[Metrics, Metrics]:
    """Return the metrics that count, and those that the original's record declares unjudged."""
    found = tuple(metrics)
    names = {metric.name for metric in found} if judging.patterns(original.tolerances) else set()
    decide_nothing = {name for name in names if judging.is_unjudged(name, original.tolerances)}
    return (
        tuple(metric for metric in found if metric.name not in decide_nothing),
        tuple(metric for metric in found if metric.name in decide_nothing),
    )


def phrase(metric: MetricComparison) -> str:
    """Say how an unjudged metric compares."""
    return f"{metric_phrase(metric)} (declared unjudged)"


def declaration(metrics: Sequence[MetricComparison]) -> str:
    """Say which metrics decided nothing, in one sentence; empty where there is none."""
    names = sorted({metric.name for metric in metrics})
    if not names:
        return ""
    return f"Declared unjudged when the run was recorded: {counted(len(names), 'metric')} ({listed(names)})."


def suggestion(beyond: Sequence[MetricComparison]) -> str:
    """Say how times are declared, where nothing but what is called like a time leaves its limit; else nothing.

    Args:
        beyond: The metrics that make a replay no match, where nothing else does.
    """
    names = sorted({metric.name for metric in beyond})
    if not names or not all(map(judging.looks_like_time, names)):
        return ""
    options = " ".join(f"--unjudged '{name}'" for name in names[:3])
    more = " …" if len(names) > 3 else ""
    return (
        f" By {'its name this is a time' if len(names) == 1 else 'their names these are times'}, and nothing else that "
        f"counts differs: what differs in each run is declared when it is recorded, repro record {options}{more}."
    )
