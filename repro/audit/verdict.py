"""Did the replay repeat the run? A verdict is a value: a word, a reason where there is none, and what was compared.

Procedure `repro/compare`, version 2. The first rule that applies decides:

1. Data that the run had read changed before the replay: nothing can be concluded.
2. A certain mismatch: another fingerprint or number at a step that both have, other bytes in a checkpoint, another end
   of the command.
3. Neither side has a metric, a fingerprint or an output: nothing to compare.
4. One side was cut short from outside: what both have is equal, the rest is unknown.
5. The trace has a gap, or what must be compared has no digest: what was seen is equal, the rest is unknown. (A learning
   rate or a fingerprint that could not be read is no such gap: its effect is in the losses and the checkpoints.)
6. A step, a metric or a checkpoint is missing on one side: a mismatch. A traced step is, if both sides were to trace
   the same steps.
7. Everything that counts is equal.

Metrics count bit for bit, unless the original was sealed with a tolerance for them: then only the limit counts, and
fingerprints and checkpoints need not be identical. Checkpoints are the outputs that torch wrote. Other outputs often
hold times: they are compared and named, and they decide only where there is neither a metric nor a traced step.

Fingerprints are those of the training trace, compared as `repro.audit.fingerprints` says: a random generator's state
that the training did not draw from decides nothing. Two runs that were not both traced are judged by the rest, as in
version 1, which knew of no trace.

A lineage that is not complete changes no word: losses and checkpoints were compared, and are equal or not, whatever was
read. But an input may have been there that no record names. The verdict says so in `caveats`, and page one repeats it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from repro.audit.digests import comparable
from repro.audit.divergence import MetricComparison, compare_metrics
from repro.audit.fingerprints import TraceComparison, compare_fingerprints
from repro.audit.lineage import caveat
from repro.audit.outputs import OutputComparison, compare_outputs
from repro.audit.rebase import rebase, replay_sentences
from repro.audit.tracewords import first_phrase, first_sentence, short_phrases, trace_evidence, unused_phrases
from repro.audit.wording import capital, ended, evidence, listed, metric_phrase, outcome, output_phrases
from repro.errors import DIFFERENT, SAME, InconclusiveError, UsageError
from repro.evidence.model import Gap, Record

PROCEDURE: Final = "repro/compare"
PROCEDURE_VERSION: Final = 2

_FROM_OUTSIDE: Final = frozenset({"SIGINT", "SIGTERM", "SIGKILL", "SIGHUP", "SIGQUIT"})
"""Signals that say something about the machine or its user, and nothing about the training."""

_FINGERPRINTS: Final = (
    *("fingerprint", "parameter names", "schedule", "order", "batch", "rng.", "sketch", "optimizer.", "backward"),
)
"""How the subjects of gaps begin that tell what the trace could not make a fingerprint of."""


class Word(StrEnum):
    """The words of the replay light."""

    MATCHED_EXACTLY = "MATCHED-EXACTLY"
    MATCHED_WITHIN_TOLERANCE = "MATCHED-WITHIN-TOLERANCE"
    DID_NOT_MATCH = "DID-NOT-MATCH"
    INDETERMINATE = "INDETERMINATE"
    NOT_ATTEMPTED = "NOT-ATTEMPTED"


class Reason(StrEnum):
    """Why a verdict is indeterminate."""

    DATA_CHANGED = "DATA_CHANGED"
    NOTHING_TO_COMPARE = "NOTHING_TO_COMPARE"
    PARTIAL_REPLAY = "PARTIAL_REPLAY"
    EVIDENCE_GAP = "EVIDENCE_GAP"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a replay repeated its original."""

    word: Word
    reason: Reason | None
    """Set where, and only where, the word is `INDETERMINATE`."""
    sentence: str
    """What was found; it ends with `evidence`."""
    evidence: str
    """What was compared, in one sentence; empty where there is nothing."""
    compared: tuple[str, ...]
    """What was compared, and how it came out; one phrase each."""
    differences: tuple[str, ...]
    """What is not equal, whether it counts or not; one phrase each."""
    metrics: tuple[MetricComparison, ...]
    outputs: tuple[OutputComparison, ...]
    trace: TraceComparison
    tolerances: tuple[tuple[str, float], ...]
    """Metric and largest absolute difference allowed, as sealed with the original."""
    changed_data: tuple[str, ...]
    caveats: tuple[str, ...]
    """What leaves the word as it is and yet limits what it says, one sentence each."""
    procedure: str = PROCEDURE
    procedure_version: int = PROCEDURE_VERSION

    @property
    def label(self) -> str:
        """The word, with its reason: `INDETERMINATE:DATA_CHANGED`."""
        return f"{self.word}:{self.reason}" if self.reason else str(self.word)


Decision = tuple[Word, Reason | None, str]


@dataclass(frozen=True, slots=True)
class _Case:
    """All that the rules look at."""

    original: Record
    replay: Record
    metrics: tuple[MetricComparison, ...]
    outputs: tuple[OutputComparison, ...]
    trace: TraceComparison
    limits: dict[str, float]
    changed_data: tuple[str, ...]
    cut_short: tuple[str, ...]
    """Phrases: which side was cut short, and by what."""
    gaps: tuple[Gap, ...]
    """Those that may leave part of the comparison open."""

    @property
    def evidence(self) -> str:
        return evidence(self.metrics, self.outputs, trace_evidence(self.trace))

    @property
    def traced(self) -> bool:
        """Whether there is a step that both sides traced."""
        return any(anchor.compared_steps for anchor in self.trace.anchors)

    @property
    def tolerant(self) -> bool:
        return any(metric.name in self.limits for metric in self.metrics)

    @property
    def decisive_outputs(self) -> tuple[OutputComparison, ...]:
        """Outputs that must be identical."""
        if not self.metrics and not self.traced:
            return self.outputs
        return () if self.tolerant else tuple(output for output in self.outputs if output.checkpoint)

    def within(self, metric: MetricComparison) -> bool:
        """Whether the steps that both sides have are as equal as they must be."""
        limit = self.limits.get(metric.name)
        if limit is None or metric.first is None:
            return metric.first is None
        return metric.largest_difference is not None and metric.largest_difference <= limit


def judge(original: Record, replay: Record, *, changed_data: tuple[str, ...] = ()) -> Verdict:
    """Compare a replay with the run that it repeats, by the rules in this module's head.

    Args:
        original: The run.
        replay: A replay of it.
        changed_data: Inputs that were seen to differ before the replay started; those that the two records show are
            found besides.

    Raises:
        UsageError: The second record is no replay of the first.
        InconclusiveError: The replay's path map cannot be read.
    """
    if replay.run.replay_of != original.run.run_id:
        raise UsageError(
            f"run {replay.run.run_id} is no replay of {original.run.run_id}", hint="compare the two with `repro diff`"
        )
    case = _case(original, rebase(replay), changed_data)
    word, reason, sentence = _decide(case)
    return Verdict(
        word=word,
        reason=reason,
        sentence=f"{sentence} {case.evidence}".strip(),
        evidence=case.evidence,
        compared=_compared(case),
        differences=_differences(case),
        metrics=case.metrics,
        outputs=case.outputs,
        trace=case.trace,
        tolerances=tuple(sorted(case.limits.items())),
        changed_data=case.changed_data,
        caveats=_caveats(original, replay),
    )


def _caveats(original: Record, replay: Record) -> tuple[str, ...]:
    found = (caveat("original", original), caveat("replay", replay))
    return tuple(sentence for sentence in found if sentence)


def exit_code(verdict: Verdict) -> int:
    """Return the exit code of a verdict: 0 matched, 1 did not match, 5 indeterminate."""
    if verdict.word in (Word.MATCHED_EXACTLY, Word.MATCHED_WITHIN_TOLERANCE):
        return SAME
    return DIFFERENT if verdict.word is Word.DID_NOT_MATCH else InconclusiveError.exit_code


def _case(original: Record, replay: Record, changed_data: tuple[str, ...]) -> _Case:
    cut_short = _cut_short(original, replay)
    seen = {gap for record in (original, replay) for gap in record.gaps}
    gaps = {gap for gap in seen if _hides_something(gap) or _of_fingerprints(gap)}
    return _Case(
        original=original,
        replay=replay,
        metrics=compare_metrics(original, replay, cut_short=bool(cut_short)),
        outputs=compare_outputs(original, replay),
        trace=compare_fingerprints(original, replay),
        limits={tolerance.metric: tolerance.absolute for tolerance in original.tolerances},
        changed_data=_changed_data(original, replay, changed_data),
        cut_short=cut_short,
        gaps=tuple(sorted(gaps, key=lambda gap: (gap.topic, gap.subject, gap.reason))),
    )


def _hides_something(gap: Gap) -> bool:
    """Say whether a gap leaves part of the comparison open. A rate that was not read shows in the losses it makes."""
    rate_alone = gap.topic == "trace" and "learning_rate" in gap.subject
    return gap.topic in ("trace", "agent") and not rate_alone and not _of_fingerprints(gap)


def _of_fingerprints(gap: Gap) -> bool:
    """Say whether a gap is of fingerprints alone, not of losses and not of the chain of what was told."""
    return gap.topic == "trace" and gap.subject.startswith(_FINGERPRINTS) and "learning_rate" not in gap.subject


def _changed_data(original: Record, replay: Record, told: tuple[str, ...]) -> tuple[str, ...]:
    """Return what is known to have changed: told by the caller, seen in the records, or sealed with the replay."""
    return tuple(sorted({*told, *_changed_inputs(original, replay)})) or replay_sentences(replay, "changed_data")


def _changed_inputs(original: Record, replay: Record) -> set[str]:
    before, after = (
        {row.path: row.digest for row in record.data_files if row.role == "input" and row.category == "data"}
        for record in (original, replay)
    )
    return {p for p in before.keys() & after if comparable(before[p], after[p]) and before[p] != after[p]}


def _cut_short(original: Record, replay: Record) -> tuple[str, ...]:
    phrases = []
    if original.run.status in ("killed", "interrupted"):
        phrases.append(f"the original was {outcome(original)}")
    if replay.run.status == "interrupted" or replay.run.signal in _FROM_OUTSIDE:
        phrases.append(f"the replay was {outcome(replay)}")
    return tuple(phrases)


def _decide(case: _Case) -> Decision:
    rules: tuple[Callable[[_Case], Decision | None], ...] = (
        _data_changed,
        _certain_mismatch,
        _nothing_to_compare,
        _partial,
        _gap,
        _shortfall,
    )
    return next((decision for rule in rules if (decision := rule(case))), None) or _matched(case)


def _data_changed(case: _Case) -> Decision | None:
    if not case.changed_data:
        return None
    sentence = f"The data are not those of the recorded run: changed: {listed(case.changed_data)}."
    return Word.INDETERMINATE, Reason.DATA_CHANGED, sentence


def _certain_mismatch(case: _Case) -> Decision | None:
    if case.trace.first is not None and not case.tolerant:
        return Word.DID_NOT_MATCH, None, first_sentence(case.trace.first)
    metric = _worst(case)
    if metric is not None:
        return Word.DID_NOT_MATCH, None, _divergence_sentence(case, metric)
    if case.cut_short:
        return None
    if outcome(case.original) != outcome(case.replay):
        sentence = f"The original {ended(case.original)}; the replay {ended(case.replay)}."
        return Word.DID_NOT_MATCH, None, sentence
    others = [output.path for output in case.decisive_outputs if output.state == "differs"]
    if others:
        return Word.DID_NOT_MATCH, None, f"Other bytes in {listed(others)}."
    return None


def _worst(case: _Case) -> MetricComparison | None:
    """Return the metric that leaves its limit first."""
    beyond = [metric for metric in case.metrics if not case.within(metric)]
    return min(beyond, key=lambda m: (m.first.step if m.first else 0, m.name != "loss", m.process_key), default=None)


def _nothing_to_compare(case: _Case) -> Decision | None:
    if case.metrics or case.outputs or case.traced:
        return None
    sentence = "Neither run left a metric or an output that was observed, so there is nothing to compare."
    return Word.INDETERMINATE, Reason.NOTHING_TO_COMPARE, sentence


def _partial(case: _Case) -> Decision | None:
    if not case.cut_short:
        return None
    sentence = f"Only a part can be compared: {' and '.join(case.cut_short)}."
    return Word.INDETERMINATE, Reason.PARTIAL_REPLAY, sentence


def _gap(case: _Case) -> Decision | None:
    # What one side alone told is missing on the other for the reason that its gap names.
    short = any(anchor.short for anchor in case.trace.anchors) and not case.tolerant
    unseen = [f"{gap.subject}: {gap.reason}" for gap in case.gaps if short or _hides_something(gap)]
    unseen += [f"{output.path}: has no digest" for output in case.decisive_outputs if output.state == "not-hashed"]
    if not unseen:
        return None
    sentence = f"What was seen is equal, but not all was seen ({listed(unseen)})."
    return Word.INDETERMINATE, Reason.EVIDENCE_GAP, sentence


def _shortfall(case: _Case) -> Decision | None:
    missing = [metric_phrase(metric) for metric in case.metrics if metric.missing_steps]
    missing += [
        f"{output.path} was written by the {'original' if output.state == 'only-left' else 'replay'} alone"
        for output in case.decisive_outputs
        if output.state in ("only-left", "only-right")
    ]
    missing += () if case.tolerant else short_phrases(case.trace)
    if not missing:
        return None
    return Word.DID_NOT_MATCH, None, f"Not everything is there on both sides: {listed(missing)}."


def _matched(case: _Case) -> Decision:
    unequal = _unequal(case)
    checkpoints = all(output.state == "identical" for output in case.outputs if output.checkpoint)
    if not unequal and checkpoints and case.trace.equal:
        return Word.MATCHED_EXACTLY, None, f"Every {_what_counts(case)} came out the same, bit for bit."
    phrases = [
        f"{metric.name} of {metric.process_key} differs by at most {metric.largest_difference!r} "
        f"(limit {case.limits[metric.name]!r})"
        for metric in unequal
    ] or ["every metric is equal, and fingerprints and checkpoints need not be under the tolerance"]
    fixed = f"limits were sealed with the recorded run on {case.original.run.ended_at}, before the replay"
    return Word.MATCHED_WITHIN_TOLERANCE, None, f"{capital(listed(phrases))}; {fixed}."


def _what_counts(case: _Case) -> str:
    if case.traced:
        return "metric, fingerprint and checkpoint" if case.metrics else "fingerprint and checkpoint"
    return "metric and checkpoint" if case.metrics else "output"


def _differences(case: _Case) -> tuple[str, ...]:
    trace = case.trace
    first = [first_phrase(trace.first)] if trace.first else []
    one_sided = [] if trace.left_traced == trace.right_traced else [_one_sided(trace)]
    return (
        *first,
        *map(metric_phrase, _unequal(case)),
        *short_phrases(trace),
        *unused_phrases(trace),
        *one_sided,
        *output_phrases(case.outputs),
    )


def _one_sided(trace: TraceComparison) -> str:
    return f"the {'original' if trace.left_traced else 'replay'} alone has a training trace, so none was compared"


def _unequal(case: _Case) -> tuple[MetricComparison, ...]:
    return tuple(metric for metric in case.metrics if not metric.equal)


def _divergence_sentence(case: _Case, metric: MetricComparison) -> str:
    first = metric.first
    assert first is not None  # noqa: S101 - `_worst` returns none without
    bits = f"(bits {first.left_bits} and {first.right_bits})"
    where = f"{metric.name} of {metric.process_key} differs from step {first.step} on"
    values = f"{where}: {first.left_decimal} became {first.right_decimal}"
    largest = "not finite" if metric.largest_difference is None else f"{metric.largest_difference:.6g}"
    limit = f", limit {case.limits[metric.name]!r}" if metric.name in case.limits else ""
    return f"{capital(values)} {bits}; largest difference {largest} at step {metric.largest_at}{limit}."


def _compared(case: _Case) -> tuple[str, ...]:
    ends = f"the end of the command: {outcome(case.original)} and {outcome(case.replay)}"
    files = tuple(f"{output.path}: {output.state}" for output in case.outputs)
    trace = trace_evidence(case.trace)
    return (*map(metric_phrase, case.metrics), *([f"the training trace: {trace}"] if trace else ()), *files, ends)
