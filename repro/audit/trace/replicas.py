"""Do the ranks of one run hold the same weights? Under DistributedDataParallel they must, after each and every step.

It gives every rank rank 0's weights when it is made, and all of them the same gradients before each step. So where the
trace of one rank says otherwise, its memory or its link is bad, or the program steps with gradients of its own: no
loss may ever show it. Nothing but the record itself is needed to see it.

Judged are anchors whose every parameter lies in a `DistributedDataParallel`, in ranks of one group that trace the same
tensors and begin with the same weights. Ranks that begin with others are replicas of other groups, or of none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from repro.audit.models import Tree, trees
from repro.audit.trace.words import field_words
from repro.audit.wording import counted, listed
from repro.evidence.model import Process, Record, TracedTensor

WORD: Final = 16
NAMED: Final = 8
"""Tensors that are named; the others are counted."""
_WRAPPER: Final = "DistributedDataParallel"
_FIELDS: Final = ("weight", "parameter")
_TOLD: Final = frozenset({*_FIELDS, "gradient"})

Words = dict[int, dict[str, str]]
"""Step to field to its words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parting:
    """Where the weights of replicas cease to be the same."""

    step: int
    field: str
    """`weight` where they differ before the step, `parameter` after it."""
    apart: tuple[int, ...]
    """Ranks that hold other weights than most; every rank, where no weights are held by most."""
    tensors: tuple[str, ...]
    """The first tensors that differ, by name, shape and type; at most `NAMED`."""
    differing: int
    of: int
    last_equal: int | None
    """The last traced step at whose end they were the same; `None` where there is none."""
    gradients_equal: bool | None
    """Whether the step had the same gradients in all of them; `None` where they were not told, or come too late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicas:
    """Ranks that began with the same weights, and what became of that."""

    anchor: str
    ranks: tuple[int, ...]
    """In order."""
    process_keys: tuple[str, ...]
    """In the same order."""
    compared_steps: int
    """Steps that all of them traced."""
    equal_steps: int
    """Of these, the steps before and after which all weights were the same."""
    parting: Parting | None


@dataclass(frozen=True, slots=True)
class _Rank:
    """One rank's trace of an anchor."""

    process: Process
    number: int
    words: Words
    tensors: tuple[TracedTensor, ...]


def replicas(record: Record) -> tuple[Replicas, ...]:
    """Return each set of replicas that a record tells of, sorted by anchor and rank; a rank alone is a set of one."""
    found = []
    for anchor, group in _groups(record):
        for same in _alike(group, _structure):
            # Who trains tensors like nobody else's, as an optimizer that is split among ranks, is nobody's replica.
            found += [_compare(anchor, each) for each in _alike(same, _beginning)] if len(same) > 1 else []
    return tuple(sorted(found, key=lambda each: (each.anchor, each.process_keys)))


def sentences(record: Record) -> tuple[str, ...]:
    """Say of each set of replicas in one sentence whether its weights stayed the same."""
    return tuple(map(sentence, replicas(record)))


def broken(record: Record) -> tuple[str, ...]:
    """Say the same, of those alone whose weights did not."""
    return tuple(sentence(each) for each in replicas(record) if each.parting is not None)


def sentence(each: Replicas) -> str:
    """Say whether the weights of a set of replicas stayed the same."""
    if len(each.ranks) == 1:
        return (
            f"{each.anchor}: rank {each.ranks[0]} began with weights that no other rank has: it belongs to another "
            "process group, or was not given those of the first rank"
        )
    ranks = f"ranks {', '.join(map(str, each.ranks))}" if len(each.ranks) <= NAMED else f"{len(each.ranks)} ranks"
    if each.parting is None:
        return f"{each.anchor}: the same in {ranks} at {counted(each.compared_steps, 'traced step')}"
    return f"{each.anchor}: not the same in {ranks}: {_parting(each, each.parting)}"


def _parting(each: Replicas, parting: Parting) -> str:
    all_apart = len(parting.apart) == len(each.ranks)
    who = "they differ" if all_apart else f"{_named(parting.apart)} from the others"
    more = parting.differing - len(parting.tensors)
    tensors = f"{parting.differing:,} of {counted(parting.of, 'tensor')}: {', '.join(parting.tensors)}"
    tensors += f" and {more:,} more" if more else ""
    before = "" if parting.last_equal is None else f"; they were the same after step {parting.last_equal:,}"
    gradients = {
        None: "",
        True: "; its gradients were the same in all of them",
        False: "; its gradients already differed: ranks did not share them",
    }[parting.gradients_equal]
    return f"{who} from step {parting.step:,} on, in {field_words(parting.field)} ({tensors}){before}{gradients}"


def _named(ranks: Sequence[int]) -> str:
    if len(ranks) == 1:
        return f"rank {ranks[0]} differs"
    return f"ranks {listed([str(rank) for rank in ranks], NAMED)} differ"


def _groups(record: Record) -> Iterator[tuple[str, list[_Rank]]]:
    """Yield, for each anchor of a group of ranks, the ranks whose parameters DistributedDataParallel holds."""
    if len({process.rank for process in record.processes} - {None}) < 2:
        return
    told = trees(record)
    held = {key for key, models in told.items() if models and all(map(_is_replicated, models))}
    words, tensors = _words(record, held), _tensors(record, held)
    launched = {process.process_key: (group, process) for group, process in _launched(record)}
    groups: dict[tuple[object, ...], list[_Rank]] = {}
    for key in sorted(words):
        if key[0] in launched:
            group, process = launched[key[0]]
            rank = _Rank(process, process.rank or 0, words[key], tensors[key])
            groups.setdefault((key[1], *group), []).append(rank)
    yield from ((str(key[0]), group) for key, group in groups.items() if len(group) > 1)


def _launched(record: Record) -> Iterator[tuple[tuple[object, ...], Process]]:
    """Yield each rank with what tells its group from others: its size, its attempt, its launcher, its turn.

    The launcher counts where two processes have one rank otherwise, since a rank may start the others; the turn where
    one launcher starts several groups one after the other.
    """
    ranks = [process for process in record.processes if process.rank is not None]
    first = sorted((p for p in ranks if not _is_worker(p, ranks)), key=lambda process: process.started_at)
    counts = Counter((p.world_size, p.attempt, p.rank) for p in first)
    several = {(size, attempt) for (size, attempt, _), count in counts.items() if count > 1}
    seen: Counter[tuple[object, ...]] = Counter()
    for process in first:
        key: tuple[object, ...] = (process.world_size, process.attempt)
        key = (*key, process.parent_key if key in several else None)
        yield (*key, seen[*key, process.rank]), process
        seen[*key, process.rank] += 1


def _is_worker(process: Process, ranks: Sequence[Process]) -> bool:
    """Say whether a process has its rank from its parent, as a worker that loads data has."""
    return any(p.process_key == process.parent_key and p.rank == process.rank for p in ranks)


def _is_replicated(tree: Tree) -> bool:
    """Say whether every parameter of a model lies in a DistributedDataParallel."""
    paths = [row.path for row in tree.modules if row.class_name.rpartition(".")[2] == _WRAPPER]
    prefixes = tuple(f"{path}." if path else "" for path in paths)
    return bool(prefixes) and all(row.name.startswith(prefixes) for row in tree.tensors if row.kind == "parameter")


def _words(record: Record, held: set[tuple[str, str]]) -> dict[tuple[str, str], Words]:
    found: dict[tuple[str, str], Words] = {}
    for row in record.fingerprints:
        key = (row.process_key, row.anchor)
        if row.field in _TOLD and key in held:
            found.setdefault(key, {}).setdefault(row.step, {}).setdefault(row.field, row.words)
    return found


def _tensors(record: Record, held: set[tuple[str, str]]) -> dict[tuple[str, str], tuple[TracedTensor, ...]]:
    """Return the tensors that stand from the first step on."""
    found: dict[tuple[str, str], list[TracedTensor]] = {key: [] for key in held}
    for row in record.traced_tensors:
        if (row.process_key, row.anchor) in held and row.step == 0:
            found[row.process_key, row.anchor].append(row)
    return {key: tuple(sorted(rows, key=lambda row: row.ordinal)) for key, rows in found.items()}


def _alike(ranks: Iterable[_Rank], what: Callable[[_Rank], object]) -> list[list[_Rank]]:
    """Return the ranks that have something in common, together."""
    found: dict[object, list[_Rank]] = {}
    for rank in ranks:
        found.setdefault(what(rank), []).append(rank)
    return list(found.values())


def _structure(rank: _Rank) -> object:
    return tuple((row.name, row.shape, row.dtype) for row in rank.tensors)


def _beginning(rank: _Rank) -> object:
    """Return the weights that the first step began with."""
    return rank.words.get(0, {}).get("weight")


def _compare(anchor: str, ranks: list[_Rank]) -> Replicas:
    ranks = sorted(ranks, key=lambda rank: rank.number)
    steps = sorted(set.intersection(*(set(rank.words) for rank in ranks)))
    apart = [(step, field) for step in steps if (field := _first_field(ranks, step))] if len(ranks) > 1 else []
    return Replicas(
        anchor=anchor,
        ranks=tuple(rank.number for rank in ranks),
        process_keys=tuple(rank.process.process_key for rank in ranks),
        compared_steps=len(steps),
        equal_steps=len(steps) - len(apart),
        parting=_parting_at(ranks, steps, *apart[0]) if apart else None,
    )


def _first_field(ranks: list[_Rank], step: int) -> str | None:
    """Return the first field of a step in which the weights differ; `None` where all of them are the same."""
    return next((field for field in _FIELDS if len(_told(ranks, step, field)) > 1), None)


def _told(ranks: list[_Rank], step: int, field: str) -> Counter[str]:
    """Count what ranks say of a field, which may be of other length where a rank's list of tensors changed."""
    told = [rank.words[step].get(field) for rank in ranks]
    return Counter() if None in told else Counter(words for words in told if words is not None)


def _parting_at(ranks: list[_Rank], steps: list[int], step: int, field: str) -> Parting:
    told = _told(ranks, step, field)
    (most, count), *_ = told.most_common(1)
    common = most if count * 2 > len(ranks) else None
    rows = [rank.words[step][field] for rank in ranks]
    of = max(map(len, rows)) // WORD
    places = [place for place in range(of) if len({row[place * WORD : (place + 1) * WORD] for row in rows}) > 1]
    gradients = _told(ranks, step, "gradient") if field == "parameter" else None
    earlier = [each for each in steps if each < step]
    return Parting(
        step=step,
        field=field,
        apart=tuple(rank.number for rank, row in zip(ranks, rows, strict=True) if row != common),
        tensors=tuple(_tensor(ranks[0], place) for place in places[:NAMED]),
        differing=len(places),
        of=of,
        last_equal=earlier[-1] if earlier else None,
        gradients_equal=len(gradients) == 1 if gradients else None,
    )


def _tensor(rank: _Rank, place: int) -> str:
    if place >= len(rank.tensors):
        return f"tensor {place}"
    row = rank.tensors[place]
    return f"{row.name} {row.shape} {row.dtype}"
