"""Did the replay repeat the run? A verdict is a value: a word, a reason where there is none, and what was compared.

Procedure `repro/compare`, version 3. The first rule that applies decides:

1. Data that the run had read changed before the replay: nothing can be concluded.
2. A certain mismatch: another fingerprint or number at a step that both have, another tensor in a checkpoint, another
   end of the command.
3. Neither side has a metric, a fingerprint or an output: nothing to compare.
4. One side was cut short from outside: what both have is equal, the rest is unknown.
5. The trace has a gap, or what must be compared has no digest: what was seen is equal, the rest is unknown. (A learning
   rate or a fingerprint that could not be read is no such gap: its effect is in the losses and the checkpoints.)
6. A step, a metric or a checkpoint is missing on one side: a mismatch. A traced step is, if both sides were to trace
   the same steps.
7. The replay was of the first steps alone: these are equal, and the rest is unknown. Rules 2 to 6 take the same part of
   the original, and neither outputs nor the end of the command (`repro.audit.prefix`).
8. Everything that counts is equal.

Metrics count bit for bit, unless the original was sealed with a tolerance for them: then only the limit counts, and
fingerprints and checkpoints need not be identical. One that was sealed as unjudged is compared and shown, and decides
nothing: the rules go as if it were not there. Checkpoints are the outputs that torch wrote, and those of other
libraries that tell of their tensors. One with other bytes and equal tensors is named, and decides nothing; where its
tensors were not told its bytes count. Other outputs often hold times: they are compared and named, and they decide only
where there is neither a metric nor a traced step.

Fingerprints are those of the training trace, compared as `repro.audit.trace.fingerprints` says: a random generator's
state that the training did not draw from decides nothing. Two runs that were not both traced are judged by the rest, as
in version 1, which knew of no trace.

A lineage that is not complete changes no word: losses and checkpoints were compared, and are equal or not, whatever was
read. But an input may have been there that no record names. The verdict says so in `caveats`, and page one repeats it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from repro.audit import tails, unjudged
from repro.audit.blindspots import hides_something, of_fingerprints
from repro.audit.caveats import caveats
from repro.audit.changeddata import changed
from repro.audit.divergence import MetricComparison, compare_metrics
from repro.audit.outputs import OutputComparison, compare_outputs
from repro.audit.prefix import cut_short, first_steps, prefix, steps_asked, without_outputs
from repro.audit.rebase import rebase
from repro.audit.trace.fingerprints import TraceComparison, compare_fingerprints
from repro.audit.trace.words import first_phrase, first_sentence, short_phrases, trace_evidence, unused_phrases
from repro.audit.wording import (
    capital,
    divergence_sentence,
    ended,
    evidence,
    listed,
    metric_phrase,
    other_bytes,
    outcome,
    output_phrases,
)
from repro.errors import DIFFERENT, SAME, InconclusiveError, UsageError
from repro.evidence import judging
from repro.evidence.model import Gap, Record

PROCEDURE: Final = "repro/compare"
PROCEDURE_VERSION: Final = 3


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
    FIRST_STEPS_EQUAL = "FIRST_STEPS_EQUAL"
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
    """All of them, those that decide nothing too."""
    unjudged: tuple[str, ...]
    """Names of the metrics that decide nothing, as was sealed with the original."""
    outputs: tuple[OutputComparison, ...]
    trace: TraceComparison
    tolerances: tuple[tuple[str, float], ...]
    """Metric and largest absolute difference allowed, as sealed with the original; infinite of what is unjudged."""
    changed_data: tuple[str, ...]
    caveats: tuple[str, ...]
    """What leaves the word as it is and yet limits what it says, one sentence each."""
    steps: int | None = None
    """The first steps that the replay was to run, and did; `None` of a whole one."""
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
    """Those that count."""
    unjudged: tuple[MetricComparison, ...]
    outputs: tuple[OutputComparison, ...]
    trace: TraceComparison
    limits: dict[str, float]
    changed_data: tuple[str, ...]
    cut_short: tuple[str, ...]
    """Phrases: which side was cut short, and by what."""
    gaps: tuple[Gap, ...]
    """Those that may leave part of the comparison open."""
    steps: int | None
    """As in `Verdict`."""

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
    rebased = rebase(replay)
    steps = steps_asked(rebased)
    both = (original, rebased) if steps is None else (prefix(original, rebased, steps), without_outputs(rebased))
    case = _case(*(both if steps else tails.aligned(*both)), changed_data, steps)
    word, reason, sentence = _decide(case)
    told = " ".join(filter(None, (sentence, unjudged.declaration(case.unjudged))))
    return Verdict(
        word=word,
        reason=reason,
        sentence=f"{told} {case.evidence}".strip(),
        evidence=case.evidence,
        compared=_compared(case),
        differences=_differences(case),
        metrics=tuple(sorted((*case.metrics, *case.unjudged), key=lambda m: (m.process_key, m.name))),
        unjudged=tuple(sorted({metric.name for metric in case.unjudged})),
        outputs=case.outputs,
        trace=case.trace,
        tolerances=tuple(sorted((row.metric, row.absolute) for row in original.tolerances)),
        changed_data=case.changed_data,
        caveats=caveats(original, replay, matched=word is not Word.DID_NOT_MATCH),
        steps=steps,
    )


def exit_code(verdict: Verdict) -> int:
    """Return the exit code of a verdict: 0 matched, 1 did not match, 5 indeterminate.

    Equal first steps leave the verdict on the run open. But they are all that such a replay was asked for: 0.
    """
    if verdict.word in (Word.MATCHED_EXACTLY, Word.MATCHED_WITHIN_TOLERANCE):
        return SAME
    if verdict.reason is Reason.FIRST_STEPS_EQUAL:
        return SAME
    return DIFFERENT if verdict.word is Word.DID_NOT_MATCH else InconclusiveError.exit_code


def _case(original: Record, replay: Record, changed_data: tuple[str, ...], steps: int | None) -> _Case:
    short = cut_short(None if steps else original, replay)
    seen = {gap for record in (original, replay) for gap in record.gaps}
    gaps = {gap for gap in seen if hides_something(gap) or of_fingerprints(gap)}
    judged, others = unjudged.parted(compare_metrics(original, replay, cut_short=bool(short or steps)), original)
    return _Case(
        original=original,
        replay=replay,
        metrics=judged,
        unjudged=others,
        outputs=compare_outputs(original, replay),
        trace=compare_fingerprints(original, replay),
        limits=judging.limits(original.tolerances),
        changed_data=changed(original, replay, changed_data),
        cut_short=short,
        gaps=tuple(sorted(gaps, key=lambda gap: (gap.topic, gap.subject, gap.reason))),
        steps=steps,
    )


def _first_steps(case: _Case) -> Decision | None:
    """Decide on a replay of the first steps in which everything that counts is equal."""
    if case.steps is None:
        return None
    word, _, sentence = _matched(case)
    told = first_steps(case.steps, "" if word is Word.MATCHED_EXACTLY else sentence)
    return Word.INDETERMINATE, Reason.FIRST_STEPS_EQUAL, told


def _decide(case: _Case) -> Decision:
    rules: tuple[Callable[[_Case], Decision | None], ...] = (
        _data_changed,
        _certain_mismatch,
        _nothing_to_compare,
        _partial,
        _gap,
        _shortfall,
        _first_steps,
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
        return Word.DID_NOT_MATCH, None, divergence_sentence(metric, case.limits.get(metric.name)) + _suggestion(case)
    if case.cut_short or case.steps:
        return None
    if outcome(case.original) != outcome(case.replay):
        sentence = f"The original {ended(case.original)}; the replay {ended(case.replay)}."
        return Word.DID_NOT_MATCH, None, sentence
    others = [output for output in case.decisive_outputs if output.state == "differs"]
    if others:
        return Word.DID_NOT_MATCH, None, other_bytes(others)
    return None


def _suggestion(case: _Case) -> str:
    """Say how metrics are declared unjudged, where these alone make the replay no match and are called like times."""
    others = outcome(case.original) != outcome(case.replay) or any(not o.same for o in case.decisive_outputs)
    beyond = () if others else tuple(metric for metric in case.metrics if not case.within(metric))
    return unjudged.suggestion(beyond)


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
    unseen = [f"{gap.subject}: {gap.reason}" for gap in case.gaps if short or hides_something(gap)]
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
    checkpoints = all(output.same for output in case.outputs if output.checkpoint)
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
    metric = "judged metric" if case.unjudged else "metric"
    if case.traced:
        return f"{metric}, fingerprint and checkpoint" if case.metrics else "fingerprint and checkpoint"
    return f"{metric} and checkpoint" if case.metrics else "output"


def _differences(case: _Case) -> tuple[str, ...]:
    trace = case.trace
    first = [first_phrase(trace.first)] if trace.first else []
    one_sided = [] if trace.left_traced == trace.right_traced else [_one_sided(trace)]
    return (
        *first,
        *map(metric_phrase, _unequal(case)),
        *map(unjudged.phrase, (metric for metric in case.unjudged if not metric.equal)),
        *short_phrases(trace),
        *unused_phrases(trace),
        *one_sided,
        *output_phrases(case.outputs),
    )


def _one_sided(trace: TraceComparison) -> str:
    return f"the {'original' if trace.left_traced else 'replay'} alone has a training trace, so none was compared"


def _unequal(case: _Case) -> tuple[MetricComparison, ...]:
    return tuple(metric for metric in case.metrics if not metric.equal)


def _compared(case: _Case) -> tuple[str, ...]:
    ends = f"the end of the command: {outcome(case.original)} and {outcome(case.replay)}"
    files = tuple(f"{output.path}: {output.state}" for output in case.outputs)
    trace = trace_evidence(case.trace)
    metrics = (*map(metric_phrase, case.metrics), *map(unjudged.phrase, case.unjudged))
    last = ends if case.steps is None else f"only the first {case.steps} steps of each process that trains"
    return (*metrics, *([f"the training trace: {trace}"] if trace else ()), *files, last)
