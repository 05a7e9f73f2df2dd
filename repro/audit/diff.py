"""What differs between two runs, section by section, and from which step on their metrics part.

A replay is seen through `repro.audit.rebase` first: scratch paths, run ids, times and the git facts that a scratch tree
cannot have differ by construction and are not reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from repro.audit.arguments import named_arguments
from repro.audit.divergence import MetricComparison, compare_metrics
from repro.audit.outputs import bytecode, compare_outputs, outputs
from repro.audit.rebase import rebase
from repro.audit.wording import outcome
from repro.evidence.model import CodeFile, DataFile, Package, Record

SECTIONS: Final = (
    "code",
    "arguments",
    "data",
    "environment",
    "variables",
    "settings",
    "seeds",
    "randomness",
    "hardware",
    "processes",
    "outputs",
    "outcome",
    "gaps",
)
"""In the order in which a cause is best looked for."""
CHANCE: Final = "randomness"
"""The section of what every run draws anew. It is told, and counts by its effect alone."""

_DERIVED: Final = {"code": {"tree", "diff"}, "environment": {"fingerprint", "lock"}}
"""Facts that sum up what is compared piece by piece."""
_OF_THE_REPLAY: Final = {
    "code": {"commit", "branch", "dirty", "describe"},
    "environment": {"other_variables"},
    "randomness": {"hash_seed_source"},
    "variable": {"VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "PYTHONHASHSEED"},
}
"""Facts that a replay has otherwise by construction: it runs without git, in an environment of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that is not the same on both sides."""

    section: str
    """One of `SECTIONS`."""
    name: str
    left: str | None
    """`None` where the left side has no such thing."""
    right: str | None
    note: str
    """What to know beside the two values; may be empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """All that differs between two runs."""

    left_run_id: str
    right_run_id: str
    differences: tuple[Difference, ...]
    metrics: tuple[MetricComparison, ...]
    """Every metric, equal ones too."""
    not_compared: tuple[str, ...]
    """What could not be compared, one sentence each."""

    @property
    def same(self) -> bool:
        """Whether nothing but chance differs: no other section does, and every metric is equal bit for bit."""
        return all(d.section == CHANCE for d in self.differences) and all(metric.equal for metric in self.metrics)

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
        *_code(ours, theirs),
        *_arguments(ours, theirs),
        *_data(ours, theirs),
        *_packages(ours, theirs),
        *_facts("environment", "environment", ours, theirs),
        *_facts("variables", "variable", ours, theirs),
        *_settings(ours, theirs),
        *_seeds(ours, theirs),
        *_randomness(ours, theirs),
        *_facts("hardware", "hardware", ours, theirs),
        *_processes(ours, theirs),
        *_outputs(ours, theirs),
        *_outcome(ours, theirs),
        *_gaps(ours, theirs),
    )
    return Diff(
        left_run_id=left.run.run_id,
        right_run_id=right.run.run_id,
        differences=found,
        metrics=compare_metrics(ours, theirs),
        not_compared=tuple(_not_compared(ours, theirs)),
    )


def _keyed(section: str, left: Mapping[str, str], right: Mapping[str, str], note: str = "") -> Iterator[Difference]:
    for name in sorted({*left, *right}):
        if left.get(name) != right.get(name):
            yield Difference(section=section, name=name, left=left.get(name), right=right.get(name), note=note)


def _replaying(left: Record, right: Record) -> bool:
    return left.run.replay_of is not None or right.run.replay_of is not None


def _facts(section: str, topic: str, left: Record, right: Record) -> Iterator[Difference]:
    skipped = set(_DERIVED.get(topic, set()))
    if _replaying(left, right):
        skipped |= _OF_THE_REPLAY.get(topic, set())

    def compared(record: Record) -> dict[str, str]:
        return {fact.name: fact.value for fact in record.facts if fact.topic == topic and fact.name not in skipped}

    return _keyed(section, compared(left), compared(right))


def _code(left: Record, right: Record) -> Iterator[Difference]:
    ours, theirs = ({row.path: row for row in record.code_files} for record in (left, right))
    overwritten = _overwritten(left, right)
    for path in sorted({*ours, *theirs} - overwritten):
        before, after = ours.get(path), theirs.get(path)
        note = _code_note(before, after)
        if note:
            yield Difference(
                section="code",
                name=path,
                left=before.sha256 if before else None,
                right=after.sha256 if after else None,
                note=note,
            )
    if not _replaying(left, right):
        yield from _facts("code", "code", left, right)


def _overwritten(left: Record, right: Record) -> set[str]:
    """Return the code files that are outputs: of both runs, or of either where a replay starts without them."""
    if _replaying(left, right):
        return {*outputs(left), *outputs(right)}
    return outputs(left).keys() & outputs(right).keys()


def _code_note(left: CodeFile | None, right: CodeFile | None) -> str:
    if left is None or right is None:
        return "added" if left is None else "removed"
    notes = []
    if left.sha256 != right.sha256:
        notes.append("content changed")
    if left.kind != right.kind:
        notes.append(f"{left.kind} became {right.kind}")
    if left.mode != right.mode:
        notes.append(f"mode {left.mode:04o} became {right.mode:04o}")
    return ", ".join(notes)


def _arguments(left: Record, right: Record) -> Iterator[Difference]:
    yield from _keyed("arguments", named_arguments(left.run.argv), named_arguments(right.run.argv))
    ours, theirs = ({"working directory": record.run.working_directory} for record in (left, right))
    yield from _keyed("arguments", ours, theirs)


def _data(left: Record, right: Record) -> Iterator[Difference]:
    ours, theirs = _inputs(left), _inputs(right)
    gone, new = (
        {path: ours[path] for path in ours.keys() - theirs},
        {path: theirs[path] for path in theirs.keys() - ours},
    )
    for old, path in _moved(gone, new):
        del gone[old], new[path]
        yield Difference(section="data", name=old, left=old, right=path, note="same content under another path")
    for path in sorted({*gone, *new, *(ours.keys() & theirs)}):
        before, after = ours.get(path), theirs.get(path)
        note = _data_note(before, after)
        if note:
            yield Difference(
                section="data",
                name=path,
                left=_digest(before),
                right=_digest(after),
                note=note,
            )


def _inputs(record: Record) -> dict[str, DataFile]:
    tree = {row.path for row in record.code_files}
    return {
        row.path: row
        for row in record.data_files
        if row.role == "input"
        and (row.category in ("data", "environment") or (row.category == "code" and row.path not in tree))
        and not bytecode(row.path)
    }


def _moved(gone: Mapping[str, DataFile], new: Mapping[str, DataFile]) -> list[tuple[str, str]]:
    """Pair files that only one side has and whose content is the same, each at most once."""
    by_digest: dict[str, list[str]] = {}
    for path in sorted(new, reverse=True):
        if new[path].sha256 is not None:
            by_digest.setdefault(str(new[path].sha256), []).append(path)
    return [(old, by_digest[key].pop()) for old in sorted(gone) if by_digest.get(key := str(gone[old].sha256))]


def _digest(row: DataFile | None) -> str | None:
    return None if row is None else row.sha256 or "not hashed"


def _data_note(left: DataFile | None, right: DataFile | None) -> str:
    if left is None or right is None:
        return "only read on the right" if left is None else "only read on the left"
    if left.sha256 is None or right.sha256 is None:
        return "cannot be compared: not hashed on both sides"
    return "content changed" if left.sha256 != right.sha256 else ""


def _packages(left: Record, right: Record) -> Iterator[Difference]:
    ours, theirs = _by_name(left.packages), _by_name(right.packages)
    for name in sorted({*ours, *theirs}):
        before, after = ours.get(name, ()), theirs.get(name, ())
        if [_version(row) for row in before] != [_version(row) for row in after]:
            yield Difference(section="environment", name=name, left=_versions(before), right=_versions(after), note="")
        elif _locally_different(before, after):
            note = "same version and place, but its RECORD file, which lists its contents, differs"
            yield Difference(
                section="environment", name=name, left=before[0].record_sha256, right=after[0].record_sha256, note=note
            )


def _by_name(packages: Iterable[Package]) -> dict[str, tuple[Package, ...]]:
    found: dict[str, tuple[Package, ...]] = {}
    for row in packages:
        found[row.name] = (*found.get(row.name, ()), row)
    return found


def _version(row: Package) -> str:
    return row.version if row.direct_url is None else f"{row.version} from {row.direct_url}"


def _versions(rows: tuple[Package, ...]) -> str | None:
    return ", ".join(map(_version, rows)) or None


def _locally_different(left: tuple[Package, ...], right: tuple[Package, ...]) -> bool:
    return any(
        before.location == after.location and before.record_sha256 != after.record_sha256
        for before, after in zip(left, right, strict=True)
    )


def _settings(left: Record, right: Record) -> Iterator[Difference]:
    ours, theirs = (
        {(row.process_key, row.moment, row.name): row.value for row in record.settings} for record in (left, right)
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


def _seeds(left: Record, right: Record) -> Iterator[Difference]:
    ours, theirs = ({(s.process_key, s.function, s.ordinal): s.argument for s in r.seeds} for r in (left, right))
    yield from _streams("seeds", "call", ours, theirs)


def _randomness(left: Record, right: Record) -> Iterator[Difference]:
    yield from _facts(CHANCE, "randomness", left, right)
    ours, theirs = ({(e.process_key, e.stream, e.ordinal): e.value for e in r.entropy} for r in (left, right))
    yield from _streams(CHANCE, "draw", ours, theirs)
    states, others = (
        {f"{s.generator} state, {s.process_key} at {s.moment}": s.sha256 for s in r.generator_states}
        for r in (left, right)
    )
    yield from _keyed(CHANCE, states, others)


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


def _processes(left: Record, right: Record) -> Iterator[Difference]:
    def described(record: Record) -> dict[str, str]:
        return {
            row.process_key: f"Python {row.python_version}"
            + (f", rank {row.rank} of {row.world_size}" * (row.rank is not None))
            for row in record.processes
        }

    return _keyed("processes", described(left), described(right))


def _outputs(left: Record, right: Record) -> Iterator[Difference]:
    notes = {
        "differs": "content differs",
        "only-left": "only written on the left",
        "only-right": "only written on the right",
        "not-hashed": "cannot be compared: not hashed on both sides",
    }
    for output in compare_outputs(left, right):
        if output.state != "identical":
            yield Difference(
                section="outputs",
                name=output.path,
                left=output.left_sha256,
                right=output.right_sha256,
                note=notes[output.state],
            )
    streams = ("stdout_sha256", "stderr_sha256")
    ours, theirs = (
        {fact.name.partition("_")[0]: fact.value for fact in r.facts if fact.topic == "stream" and fact.name in streams}
        for r in (left, right)
    )
    yield from _keyed("outputs", ours, theirs, "what the command printed")


def _outcome(left: Record, right: Record) -> Iterator[Difference]:
    return _keyed("outcome", {"status": outcome(left)}, {"status": outcome(right)})


def _gaps(left: Record, right: Record) -> Iterator[Difference]:
    def reasons(record: Record) -> dict[str, str]:
        found: dict[str, str] = {}
        for gap in sorted(record.gaps, key=lambda g: g.reason):
            if gap.topic == "lock" and _replaying(left, right):
                continue  # a replay resolves no lock: it was given one, or needs none
            name = f"{gap.topic}: {gap.subject}"
            found[name] = f"{found[name]}; {gap.reason}" if name in found else gap.reason
        return found

    return _keyed("gaps", reasons(left), reasons(right))


def _not_compared(left: Record, right: Record) -> Iterator[str]:
    if left.run.root != right.run.root:
        yield f"The code trees stand at different places: {left.run.root} and {right.run.root}."
    overwritten = sorted(_overwritten(left, right) & {row.path for row in (*left.code_files, *right.code_files)})
    if overwritten:
        yield f"Files of the code tree that the run writes anew are compared as outputs: {', '.join(overwritten)}."
    ours, theirs = _by_name(left.packages), _by_name(right.packages)
    moved = [n for n in ours.keys() & theirs if ours[n][0].location != theirs[n][0].location]
    if moved:
        yield (
            f"{len(moved)} distributions are installed at different places; their RECORD files, which also list start "
            "scripts that name the place, were not compared."
        )
