"""The tables of a report about who ran: nodes, ranks that ended before their time, processes."""

from __future__ import annotations

from collections.abc import Iterator

from repro.audit import ranks
from repro.audit.report import Table
from repro.audit.tabulate import NONE, table
from repro.evidence import joined
from repro.evidence.model import Process, Record


def tables(record: Record) -> Iterator[Table]:
    """Yield them; those of a run on one node, of which no rank died, have no rows but the last."""
    yield table(
        "Nodes",
        "The parts that the run was merged from: runs of their own, which the merged run names by their manifests.",
        "Node:number, Part:code, Ended, Manifest:digest",
        (
            (
                str(part.node),
                part.run_id,
                record.fact(joined.TOPIC, f"node{part.node}/ended") or NONE,
                part.manifest_digest,
            )
            for part in joined.named_parts(record)
        ),
    )
    yield table(
        "Ranks that ended before their time",
        "As their launcher was told. The step is that of the last backward pass or traced step that the rank told of.",
        "What became of them",
        ((sentence,) for sentence in ranks.sentences(record)),
    )
    yield table(
        "Processes",
        "Python processes in which the agent woke up.",
        "Process:code, Rank:number, Command:code, Ended",
        (
            (
                row.process_key,
                NONE if row.rank is None else f"{row.rank} of {row.world_size}",
                " ".join(row.argv),
                ended(row),
            )
            for row in record.processes
        ),
    )


def ended(process: Process) -> str:
    """Say how and when a process ended, by itself or by what its parent was told."""
    how = process.signal or (None if process.exit_code is None else f"exit {process.exit_code}")
    at = process.ended_at or process.exited_at
    return ", ".join(filter(None, (at, how))) or "did not say goodbye"
