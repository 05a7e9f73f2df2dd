"""A run on several nodes: each node seals its part as a run of its own, and the parts together are one run more.

Pure: records in, a record out; `docs/adr/0012-several-nodes.md` says why. In the merged record

- process keys begin with the node, `node0/main/rank0`; the rest is the key in the part, with which its chain begins;
- a fact that all nodes share keeps its name; others are told apart, `node0/hostname`;
- files and packages stand once; where two nodes had another content under one name, a gap or a fact `join` says so;
- the topic `join` names each part by run id and by the digest of its manifest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from repro.errors import InconclusiveError, UsageError
from repro.evidence import tables
from repro.evidence.model import Fact, Gap, Record, Run
from repro.evidence.points import Points, points_of
from repro.evidence.tables import Table

TOPIC: Final = "join"
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What the id of a join looks like: it is a folder's name."""
MOST_NODES: Final = 100_000
_NODE: Final = re.compile(r"node\d+/")
_LISTED: Final = 20
_CONTENT: Final[dict[str, tuple[str, ...]]] = {
    "code_file": ("kind", "sha256"),
    "package": ("version", "record_sha256"),
    "package_change": ("found_sha256",),
    "system_package": ("version", "build"),
    "shared_object": ("sha256",),
    "data_file": ("digest",),
    "dataset": ("file_count", "digest"),
    "tolerance": ("absolute",),
}
"""What must be equal where two nodes have a row of one key; the rest is about when and by whom it was seen."""
_GRAVE: Final = frozenset({"code_file", "data_file", "tolerance"})
"""Where another content under one name is a gap: the record cannot hold both."""
_WORSE: Final = ("completed", "interrupted", "killed", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """Which part of which join a run is."""

    join_id: str
    node: int
    nodes: int

    def facts(self) -> tuple[Fact, ...]:
        """Return what the part's record says of it."""
        told = {"id": self.join_id, "node": str(self.node), "nodes": str(self.nodes)}
        return tuple(Fact(topic=TOPIC, name=name, value=value, source="declared") for name, value in told.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One node's part, verified."""

    record: Record
    manifest_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedPart:
    """A part as a merged record names it."""

    node: int
    run_id: str
    manifest_digest: str


def membership(record: Record) -> Membership | None:
    """Return which part a run is; `None` for a run on one node, and for a merged one."""
    join_id, node, nodes = (record.fact(TOPIC, name) for name in ("id", "node", "nodes"))
    if not join_id or not (node or "").isdecimal() or not (nodes or "").isdecimal():
        return None
    return Membership(join_id=join_id, node=int(node or 0), nodes=int(nodes or 0))


def named_parts(record: Record) -> tuple[NamedPart, ...]:
    """Return the parts that a merged record names, sorted by node; none for any other record."""
    found = []
    for fact in record.facts:
        named = re.fullmatch(r"node(\d+)/run_id", fact.name) if fact.topic == TOPIC else None
        if named:
            digest = record.fact(TOPIC, f"node{named[1]}/manifest") or ""
            found.append(NamedPart(node=int(named[1]), run_id=fact.value, manifest_digest=digest))
    return tuple(sorted(found, key=lambda part: part.node))


def without_node(name: str) -> str:
    """Return the name of a fact, or the key of a process, as the part has it."""
    return _NODE.sub("", name, count=1) if _NODE.match(name) else name


def missing(parts: Sequence[Record]) -> tuple[int, ...]:
    """Check that records are parts of one join, and return the nodes that are not among them.

    Raises:
        UsageError: There is none; one is no part, or a part of another join or of another number of nodes; one node
            comes twice, or has a number that the join does not have.
    """
    if not parts:
        raise UsageError("there is nothing to merge", hint="name a join, or its parts: repro merge JOIN")
    members = [_member(record) for record in parts]
    first, seen = members[0], dict[int, str]()
    for record, member in zip(parts, members, strict=True):
        name = f"run {record.run.run_id}"
        if member.join_id != first.join_id:
            raise UsageError(
                f"{name} is a part of the join {member.join_id}, and run {parts[0].run.run_id} of {first.join_id}",
                hint="merge the parts of one join",
            )
        if member.nodes != first.nodes:
            raise UsageError(f"{name} is one of {member.nodes} nodes, run {parts[0].run.run_id} one of {first.nodes}")
        if member.node >= member.nodes:
            raise UsageError(f"{name} is node {member.node}, and the join has the nodes 0 to {member.nodes - 1}")
        if member.node in seen:
            raise UsageError(
                f"run {seen[member.node]} and {name} are both node {member.node} of the join {member.join_id}",
                hint="give one of them; each recording needs a join id of its own",
            )
        seen[member.node] = record.run.run_id
    return tuple(node for node in range(first.nodes) if node not in seen)


def _member(record: Record) -> Membership:
    member = membership(record)
    if member is None:
        what = "the merged run of a join" if named_parts(record) else "no part of a join"
        raise UsageError(
            f"run {record.run.run_id} is {what}", hint="a part is recorded with: repro record --join ID --nodes N"
        )
    return member


def merge(
    parts: Sequence[Part], run_id: str, recorder_version: str, *, absent: str = "", replay_of: str | None = None
) -> Record:
    """Put the parts of a run on several nodes together.

    Args:
        parts: Verified, in any order.
        run_id: Of the merged run.
        recorder_version: Of who merges.
        absent: Why nodes are missing, where some are and that is accepted: the reason of a gap for each.
        replay_of: The merged run that this one repeats, if the parts are replays of its parts.

    Raises:
        UsageError: They are not the parts of one join.
        InconclusiveError: A node is missing, and no reason is given.
    """
    lacking = missing([part.record for part in parts])
    if lacking and not absent:
        raise InconclusiveError(
            f"the join has no part of {_nodes(lacking)}",
            hint="wait for it, name its run or folder too, or merge what is there: repro merge --incomplete",
        )
    ordered = sorted(parts, key=_node_of)
    nodes = {_node_of(part): part.record for part in ordered}
    rows, told, gaps = dict[str, Any](), list[Fact](), list[Gap]()
    for table in tables.tables():
        if table.name in ("run", "fact", "gap"):
            continue
        if "process_key" in table.key:
            rows[table.field] = _of_processes(table, nodes)
            continue
        rows[table.field], differing = _rows(table, nodes)
        if table.name in _GRAVE:
            gaps += (Gap(topic=TOPIC, subject=subject, reason=reason) for _, subject, reason in differing)
        else:
            told += _differences(table, differing)
    gaps += (
        Gap(topic=topic, subject=f"node {node}", reason=absent) for node in lacking for topic in (TOPIC, "lineage")
    )
    facts = [*_facts(nodes), *_names(ordered), *told]
    return Record(
        run=_run([record.run for record in nodes.values()], run_id, recorder_version, replay_of),
        facts=tuple(sorted(facts, key=lambda fact: (fact.topic, fact.name))),
        gaps=tuple(sorted({*gaps, *_gaps(nodes)}, key=lambda gap: (gap.topic, gap.subject, gap.reason))),
        **rows,
    )


def _node_of(part: Part) -> int:
    return _member(part.record).node


def _nodes(numbers: Sequence[int]) -> str:
    return ("node " if len(numbers) == 1 else "nodes ") + ", ".join(map(str, numbers))


def _run(runs: Sequence[Run], run_id: str, recorder_version: str, replay_of: str | None) -> Run:
    """Return the run as a whole: it began with the first, ended with the last, and fails with any."""
    worst = max(runs, key=lambda run: _WORSE.index(run.status))
    started_at, ended_at = min(run.started_at for run in runs), max(run.ended_at for run in runs)
    return replace(
        runs[0],
        run_id=run_id,
        replay_of=replay_of,
        started_at=started_at,
        ended_at=ended_at,
        wall_seconds=(datetime.fromisoformat(ended_at) - datetime.fromisoformat(started_at)).total_seconds(),
        cpu_seconds=sum(run.cpu_seconds for run in runs),
        peak_memory_bytes=max(run.peak_memory_bytes for run in runs),
        status=worst.status,
        exit_code=worst.exit_code,
        signal=worst.signal,
        recorder_version=recorder_version,
    )


def _facts(nodes: dict[int, Record]) -> Iterator[Fact]:
    """Yield the facts that all nodes share under their own names, the others told apart by node."""
    by_node = {node: {(f.topic, f.name): f for f in record.facts if f.topic != TOPIC} for node, record in nodes.items()}
    for key in sorted({key for each in by_node.values() for key in each}):
        found = {node: each[key] for node, each in by_node.items() if key in each}
        first = next(iter(found.values()))
        if key[0] == "trace" and key[1].startswith("chain."):
            for node, fact in found.items():
                yield replace(fact, name=f"chain.node{node}/{fact.name.removeprefix('chain.')}")
        elif key == ("replay", "path_map"):
            yield replace(first, value=_listed_together(fact.value for fact in found.values()))
        elif len(found) == len(nodes) and len({(fact.value, fact.source) for fact in found.values()}) == 1:
            yield first
        else:
            yield from (replace(fact, name=f"node{node}/{fact.name}") for node, fact in found.items())
            if key == ("data", "lineage"):
                yield replace(first, value="none" if {fact.value for fact in found.values()} == {"none"} else "partial")


def _listed_together(values: Iterator[str]) -> str:
    """Join JSON lists; what is none stays out, as it would be of no use alone either."""
    found: list[Any] = []
    for value in values:
        listed = json.loads(value)
        found += [each for each in listed if each not in found] if isinstance(listed, list) else []
    return json.dumps(found, ensure_ascii=False)


def _names(parts: Sequence[Part]) -> Iterator[Fact]:
    """Yield what names the join and its parts."""
    member = _member(parts[0].record)
    told = {"id": member.join_id, "nodes": str(member.nodes)}
    for part in parts:
        run, node = part.record.run, _node_of(part)
        told[f"node{node}/run_id"] = run.run_id
        told[f"node{node}/manifest"] = part.manifest_digest
        told[f"node{node}/command"] = json.dumps(run.argv, ensure_ascii=False)
        told[f"node{node}/ended"] = f"{run.status} ({run.signal or f'exit {run.exit_code}'})"
        told[f"node{node}/root"] = run.root
    return (Fact(topic=TOPIC, name=name, value=value, source="observed") for name, value in told.items())


def _gaps(nodes: dict[int, Record]) -> Iterator[Gap]:
    """Yield every gap of every node: one that all have is said once, others name their node or their process."""
    shared = set.intersection(*(set(record.gaps) for record in nodes.values()))
    for node, record in nodes.items():
        keys = {process.process_key for process in record.processes}
        for gap in record.gaps:
            if gap.subject in keys:
                yield replace(gap, subject=f"node{node}/{gap.subject}")
            elif gap in shared:
                yield gap
            else:
                yield replace(gap, reason=f"{gap.reason} (node {node})")


def _of_processes(table: Table, nodes: dict[int, Record]) -> Sequence[Any]:
    """Return the rows of a table of processes, of which no two nodes share one."""
    if table.name == "metric":  # there may be millions, and a series names its process once
        series = [
            replace(each, process_key=f"node{node}/{each.process_key}")
            for node, record in nodes.items()
            for each in points_of(record.metrics).series
        ]
        return Points(sorted(series, key=lambda each: (each.process_key, each.name)))
    return tuple(
        _of_node(table, row, node, 0) for node, record in nodes.items() for row in tables.rows_of(record, table)
    )


_Differing = tuple[int, str, str]
"""A node, what differs there, and how."""


def _rows(table: Table, nodes: dict[int, Record]) -> tuple[tuple[Any, ...], list[_Differing]]:
    """Return the merged rows of a table, and where two nodes have another content under one key."""
    found: dict[Any, Any] = {}
    owners: dict[Any, int] = {}
    differing: list[_Differing] = []
    for node, record in nodes.items():
        for row in tables.rows_of(record, table):
            moved = _of_node(table, row, node, len(found))
            key = tuple(getattr(moved, column) for column in table.key)
            if key not in found:
                found[key], owners[key] = moved, node
            elif unequal := _unequal(table, found[key], moved):
                differing.append((node, _called(row, table), f"{unequal} on node {node} and on node {owners[key]}"))
    return tuple(found.values()), differing


def _of_node(table: Table, row: Any, node: int, ordinal: int) -> Any:
    """Return a row with its process named as of a node, and numbered anew where the whole run is numbered through."""
    changes: dict[str, Any] = {}
    for column in table.columns:
        if column.name in ("process_key", "parent_key") and getattr(row, column.name):
            changes[column.name] = f"node{node}/{getattr(row, column.name)}"
    if table.key == ("ordinal",):
        changes["ordinal"] = ordinal
    return replace(row, **changes) if changes else row


def _unequal(table: Table, ours: Any, theirs: Any) -> str:
    """Say what differs between two rows of one key; nothing where it bears on nothing."""
    if table.name == "data_file" and ours.category != "data":
        return ""  # code has rows of its own, and each node has a system of its own
    names = _CONTENT.get(table.name, ())
    pairs = ((name, getattr(ours, name), getattr(theirs, name)) for name in names)
    return "; ".join(f"another {name} ({b} and {a})" for name, a, b in pairs if a != b)


def _called(row: Any, table: Table) -> str:
    return str(getattr(row, table.key[0]))


def _differences(table: Table, differing: Sequence[_Differing]) -> Iterator[Fact]:
    """Yield, for each node that differs from an earlier one, a fact that lists where."""
    by_node: dict[int, list[str]] = {}
    for node, subject, reason in differing:
        by_node.setdefault(node, []).append(f"{subject}: {reason}")
    for node, sentences in by_node.items():
        more = [f"and {len(sentences) - _LISTED} more"] if len(sentences) > _LISTED else []
        value = json.dumps([*sentences[:_LISTED], *more], ensure_ascii=False)
        yield Fact(topic=TOPIC, name=f"node{node}/differs.{table.name}", value=value, source="observed")
