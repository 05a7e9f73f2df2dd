"""The phrases in which comparisons are told: the same ones in verdicts, reports and on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from repro.audit.divergence import MetricComparison
from repro.audit.outputs import OutputComparison
from repro.evidence.model import Record

_OUTPUT_WORDS: Final = {
    "identical": "is byte-identical",
    "same-tensors": "has other bytes, and the tensors in it are equal",
    "differs": "differs",
    "only-left": "is missing in the replay",
    "only-right": "is there in the replay alone",
    "not-hashed": "was not hashed",
}


def outcome(record: Record) -> str:
    """Return how a run ended: `completed`, `failed with exit code 3`, `killed by SIGKILL`."""
    run = record.run
    if run.signal is not None:
        return f"{run.status} by {run.signal}"
    return run.status if run.exit_code in (0, None) else f"{run.status} with exit code {run.exit_code}"


def ended(record: Record) -> str:
    """Return how a run ended, as the end of a sentence."""
    return outcome(record) if record.run.status in ("completed", "failed") else f"was {outcome(record)}"


def evidence(metrics: Sequence[MetricComparison], outputs: Sequence[OutputComparison], trace: str = "") -> str:
    """Say what was compared: `Loss equal at 7 of 7 backward passes; 2 of 3 outputs byte-identical; a.json differs.`.

    Args:
        metrics: Every metric, compared.
        outputs: Every output, compared.
        trace: A phrase about the training trace; empty where there is none.
    """
    phrases = [f"{name} equal at {equal} of {steps} {_noun(name)}" for name, (equal, steps) in _totals(metrics)]
    phrases += [trace] if trace else []
    if outputs:
        identical = sum(output.state == "identical" for output in outputs)
        phrases.append(f"{identical} of {counted(len(outputs), 'output')} byte-identical")
    others = output_phrases(outputs)
    if others:
        phrases.append(listed(others))
    return capital("; ".join(phrases)) + "." if phrases else ""


def _totals(metrics: Sequence[MetricComparison]) -> list[tuple[str, tuple[int, int]]]:
    """Sum equal and all steps by metric over the processes, the loss first."""
    totals: dict[str, tuple[int, int]] = {}
    for metric in metrics:
        equal, steps = totals.get(metric.name, (0, 0))
        totals[metric.name] = (equal + metric.equal_steps, steps + metric.compared_steps + metric.missing_steps)
    return sorted(totals.items(), key=lambda item: (item[0] != "loss", item[0]))


def _noun(metric: str) -> str:
    if metric == "loss":
        return "backward passes"
    return "changes" if "learning_rate" in metric else "steps"


def metric_phrase(metric: MetricComparison) -> str:
    """Say how one metric compares."""
    head = f"{metric.name} of {metric.process_key}"
    if metric.first is not None:
        return f"{head} differs from step {metric.first.step} on"
    if metric.missing_steps:
        return f"{head} has {metric.left_steps} steps in the original and {metric.right_steps} in the replay"
    return f"{head} is equal at {metric.equal_steps} of {metric.compared_steps} steps"


def divergence_sentence(metric: MetricComparison, limit: float | None) -> str:
    """Say where the values of a metric part, by how much, and what was allowed."""
    first = metric.first
    assert first is not None  # noqa: S101 - the caller has found one
    bits = f"(bits {first.left_bits} and {first.right_bits})"
    where = f"{metric.name} of {metric.process_key} differs from step {first.step} on"
    values = f"{where}: {first.left_decimal} became {first.right_decimal}"
    largest = "not finite" if metric.largest_difference is None else f"{metric.largest_difference:.6g}"
    allowed = "" if limit is None else f", limit {limit!r}"
    return f"{capital(values)} {bits}; largest difference {largest} at step {metric.largest_at}{allowed}."


def output_phrases(outputs: Sequence[OutputComparison]) -> tuple[str, ...]:
    """Name every output that is not byte-identical, and how it is not."""
    return tuple(output_phrase(output) for output in outputs if output.state != "identical")


def output_phrase(output: OutputComparison) -> str:
    """Say how one output is not byte-identical; of a checkpoint, in which tensors."""
    if output.state == "same-tensors":
        number = counted(sum(each.of for each in output.held), "tensor")
        return f"{output.path} has other bytes, and all {number} are equal"
    extent = output.extent if output.state == "differs" else ""
    return f"{output.path} {_OUTPUT_WORDS[output.state]}" + (f" in {extent}" if extent else "")


def other_bytes(outputs: Sequence[OutputComparison]) -> str:
    """Say which outputs hold something else, in one sentence."""
    return f"Other bytes in {listed([f'{o.path} ({o.extent})' if o.extent else o.path for o in outputs])}."


def listed(phrases: Sequence[str], limit: int = 3) -> str:
    """Join phrases by commas, the first few of them, and count the rest."""
    head = ", ".join(phrases[:limit])
    return head + (f" and {len(phrases) - limit} more" if len(phrases) > limit else "")


def counted(number: int, noun: str) -> str:
    """Return `1 output`, `2 outputs`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def size(size_bytes: int) -> str:
    """Return a size in the largest binary unit that keeps it above one: `195.3 MiB`."""
    amount = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:,.1f} TiB"


def capital(text: str) -> str:
    """Return a phrase as the beginning of a sentence; a name such as `learning_rate.0` is left as it is."""
    first = text.partition(" ")[0].rstrip(",;:")
    return text[:1].upper() + text[1:] if first.isalpha() else text
