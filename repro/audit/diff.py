"""What differs between two runs, section by section, and from which step on their metrics part.

A replay is seen through `repro.audit.rebase` first: scratch paths, run ids, times and the git facts that a scratch tree
cannot have differ by construction and are not reported.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from repro.audit import goingon
from repro.audit.difference import CHANCE, Difference, facts, replaying
from repro.audit.divergence import MetricComparison, compare_metrics
from repro.audit.rebase import rebase
from repro.audit.sections import checkpoints, code, conduct, data, environment, model, results, software
from repro.audit.trace import replicas
from repro.audit.trace.fingerprints import TraceComparison, compare_fingerprints
from repro.audit.trace.operations import OperationComparison, compare_operations
from repro.audit.wording import counted, listed
from repro.evidence.model import Record

SECTIONS: Final = (
    "code",
    "arguments",
    "hyperparameters",
    "model",
    "data",
    "environment",
    "variables",
    "settings",
    "seeds",
    "randomness",
    "hardware",
    "processes",
    "checkpoints",
    "outputs",
    "outcome",
    "gaps",
)
"""In the order in which a cause is best looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """All that differs between two runs."""

    left_run_id: str
    right_run_id: str
    differences: tuple[Difference, ...]
    metrics: tuple[MetricComparison, ...]
    """Every metric, equal ones too."""
    trace: TraceComparison
    """The fingerprints of the steps that both runs traced."""
    operations: tuple[OperationComparison, ...]
    """The operations of the steps that both runs told one by one."""
    not_compared: tuple[str, ...]
    """What could not be compared, one sentence each."""
    goes_on: tuple[tuple[str, str], ...]
    """Run and phrase, for each anchor of a run that goes on from another run: where it stands in the whole training."""
    replicas: tuple[tuple[str, str], ...]
    """Ranks of one run that ceased to hold the same weights: the run's id, and a sentence."""

    @property
    def same(self) -> bool:
        """Whether nothing but chance differs: no other section, no fingerprint, and no metric by one bit."""
        measured = self.trace.equal and all(metric.equal for metric in self.metrics)
        return measured and all(d.section == CHANCE for d in self.differences)

    def section(self, name: str) -> tuple[Difference, ...]:
        """Return the differences of one section."""
        return tuple(difference for difference in self.differences if difference.section == name)


def diff(left: Record, right: Record) -> Diff:
    """Compare two runs.

    Raises:
        InconclusiveError: A replay's path map cannot be read.
    """
    ours, theirs = rebase(left), rebase(right)
    found = (
        *code.code(ours, theirs),
        *code.arguments(ours, theirs),
        *conduct.hyperparameters(ours, theirs),
        *model.models(ours, theirs),
        *data.data(ours, theirs),
        *environment.packages(ours, theirs),
        *software.edits(ours, theirs),
        *facts("environment", "environment", ours, theirs),
        *software.system_packages(ours, theirs),
        *software.libraries(ours, theirs),
        *facts("variables", "variable", ours, theirs),
        *software.hidden_variables(ours, theirs),
        *conduct.settings(ours, theirs),
        *conduct.seeds(ours, theirs),
        *conduct.randomness(ours, theirs),
        *facts("hardware", "hardware", ours, theirs),
        *conduct.processes(ours, theirs),
        *software.programs(ours, theirs),
        *checkpoints.checkpoints(ours, theirs),
        *results.outputs(ours, theirs),
        *results.outcome(ours, theirs),
        *results.gaps(ours, theirs),
    )
    trace = compare_fingerprints(ours, theirs)
    return Diff(
        left_run_id=left.run.run_id,
        right_run_id=right.run.run_id,
        differences=found,
        metrics=compare_metrics(ours, theirs),
        trace=trace,
        operations=compare_operations(ours, theirs),
        not_compared=(*_not_compared(ours, theirs), *_not_traced(trace)),
        goes_on=tuple((record.run.run_id, each) for record in (left, right) for each in goingon.phrases(record)),
        replicas=tuple((record.run.run_id, each) for record in (left, right) for each in replicas.broken(record)),
    )


def _not_compared(left: Record, right: Record) -> Iterator[str]:
    if left.run.root != right.run.root:
        yield f"The code trees stand at different places: {left.run.root} and {right.run.root}."
    overwritten = sorted(code.overwritten(left, right) & {row.path for row in (*left.code_files, *right.code_files)})
    if overwritten:
        yield f"Files of the code tree that the run writes anew are compared as outputs: {listed(overwritten, 20)}."
    yield from checkpoints.of_equal_tensors(left, right)
    unseen = data.unseen(left, right)
    if unseen:
        number = counted(len(unseen), "input")
        yield f"One run alone can tell of {number}, since it was watched more closely: {listed(unseen)}."
    yield from _packages_not_compared(left, right)
    if bool(left.hyperparameters) != bool(right.hyperparameters):
        yield "Hyperparameters were told of one of the runs alone."
    if bool(left.models) != bool(right.models):
        yield "The model was told of one of the runs alone."
    one_sided = software.one_sided_libraries(left, right)
    if one_sided and replaying(left, right):
        yield f"Libraries that were seen mapped in one of the runs alone: {listed(one_sided, 8)}."


def _packages_not_compared(left: Record, right: Record) -> Iterator[str]:
    ours, theirs = environment.by_name(left.packages), environment.by_name(right.packages)
    moved = [n for n in ours.keys() & theirs if ours[n][0].location != theirs[n][0].location]
    if moved:
        yield (
            f"{len(moved)} distributions are installed at different places; their RECORD files, which also list start "
            "scripts that name the place, were not compared."
        )
    if bool(left.system_packages) != bool(right.system_packages):
        yield "The packages of the operating system were listed for one of the runs alone."
    if bool(left.programs) != bool(right.programs):
        yield "The programs that were executed were listed for one of the runs alone."


def _not_traced(trace: TraceComparison) -> Iterator[str]:
    if trace.left_traced != trace.right_traced:
        yield "The training of one of the runs alone was traced step by step."
    elif any(anchor.missing_steps and not anchor.same_schedule for anchor in trace.anchors):
        yield "The runs were traced on different schedules: only the steps that both traced are compared."
