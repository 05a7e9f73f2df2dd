"""`repro show`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from repro.evidence.model import Checkpoint, DataFile, Dataset, Metric, Process, Record

_LONG = 40
"""Rows of a section that are printed before the rest is only counted; `--all` prints every one."""


def show(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run id, a unique prefix of one, @last or @prev.")
    ] = "@last",
    everything: Annotated[bool, typer.Option("--all", help="Print every row of long sections.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the whole record as JSON.")] = False,
) -> None:
    """Show what was seen of a run.

    Example: repro show @last
    """
    import dataclasses

    from repro.cli import terminal
    from repro.evidence import integrity, trust
    from repro.evidence.store import Store, home

    store = Store(home())
    record = integrity.load(store.find(run), store, trust.trusted_keys(store), allow_unknown_signer=True)
    if json:
        terminal.answer(dataclasses.asdict(dataclasses.replace(record, metrics=tuple(record.metrics))))
        return
    for title, rows in _sections(record):
        print(f"\n{title} ({len(rows)})" if title else "", end="\n" if title else "")
        limit = len(rows) if everything else _LONG
        print(terminal.table(rows[:limit]))
        if len(rows) > limit:
            print(f"… and {len(rows) - limit} more: repro show {record.run.run_id} --all")


def _sections(record: Record) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """Yield the titled sections of a record, empty ones left out."""
    yield "", _head(record)
    sections: dict[str, list[tuple[str, ...]]] = {
        "Datasets": [_dataset_row(row) for row in record.datasets],
        "Gaps": [(g.topic, g.subject, g.reason) for g in record.gaps],
        "Hyperparameters": [(h.process_key, h.source, h.name, h.value, h.site) for h in record.hyperparameters],
        "Metrics": [_metric_row(points) for points in _by_metric(record)],
        "Models": _models(record),
        "Training trace": [_trace_row(record, key, anchor, steps) for (key, anchor), steps in _traced(record)],
        "Operations": [(o.process_key, str(o.step), str(o.place), o.name, o.inputs, o.site) for o in record.operations],
        "Goes on from other runs": [(phrase,) for phrase in _goes_on(record)],
        "Checkpoints": [_checkpoint_row(row) for row in record.checkpoints],
        "Data files": [_data_row(f) for f in record.data_files if f.category == "data"],
        "Files renamed, linked or removed": [
            (c.action, c.path, f"→ {c.target}" if c.target else "", c.process_key) for c in record.file_changes
        ],
        "Code files": [(f.path, f.state, _short(f.sha256)) for f in record.code_files],
        "Packages": [(p.name, p.version, p.origin) for p in record.packages],
        "Installed files that were edited": [(c.package, c.path, c.state) for c in record.package_changes],
        "Determinism": [(f.name, f.value) for f in record.facts if f.topic == "determinism"],
        "Facts": [(f.topic, f.name, f.value) for f in record.facts if f.topic != "determinism"],
        "Settings": [(s.process_key, s.moment, s.name, s.value) for s in record.settings],
        "Seeds": [(s.process_key, s.function, s.argument, s.site) for s in record.seeds],
        "Entropy put back on replay": [(e.process_key, e.stream, str(e.ordinal), e.site) for e in record.entropy],
        "Processes": [_process_row(p) for p in record.processes],
        "Programs": [(p.process_key, p.path, _short(p.sha256), " ".join(p.argv)) for p in record.programs],
        "Libraries": [(o.owner or "", o.path, o.build_id or "no build id") for o in record.shared_objects],
        "Packages of the operating system": [
            (p.manager, p.name, p.version, p.architecture, p.build or "") for p in record.system_packages
        ],
    }
    yield from ((title, rows) for title, rows in sections.items() if rows)


def _head(record: Record) -> list[tuple[str, ...]]:
    run = record.run
    ended = run.signal or f"exit {run.exit_code}"
    return [
        ("run", run.run_id + (f" (replay of {run.replay_of})" if run.replay_of else "")),
        ("command", " ".join(run.argv)),
        ("directory", f"{run.working_directory} in {run.root}"),
        ("started", run.started_at),
        ("status", f"{run.status} ({ended})"),
        (
            "time",
            f"{run.wall_seconds:.1f} s wall, {run.cpu_seconds:.1f} s CPU, {_size(run.peak_memory_bytes)} peak memory",
        ),
        ("commit", record.fact("code", "commit") or "none"),
        *(("node", line) for line in node_lines(record)),
        *(("ranks", sentence) for sentence in _ranks(record)),
        *(("weights", sentence) for sentence in _replicas(record)),
        ("lineage", _lineage(record)),
        *([("self-check", checked)] if (checked := _self_check(record)) else []),
        *([("determinism", asked)] if (asked := _determinism(record)) else []),
        *([("trace", "off, as was asked for: no step has fingerprints")] if _is_trace_off(record) else []),
        *(
            [("energy", f"{energy} J ({record.fact('hardware', 'energy_source')})")]
            if (energy := record.fact("hardware", "energy_joules"))
            else []
        ),
    ]


def _process_row(process: Process) -> tuple[str, ...]:
    from repro.audit.whoran import ended

    return process.process_key, str(process.pid), process.python_version, ended(process), " ".join(process.argv)


def node_lines(record: Record) -> tuple[str, ...]:
    """Say which part of a join a run is, or which parts it was merged from; nothing of any other run."""
    from repro.evidence import joined

    member = joined.membership(record)
    if member is not None:
        return (f"{member.node} of {member.nodes} in the join {member.join_id}",)
    return tuple(
        f"{part.node}: run {part.run_id}, {record.fact(joined.TOPIC, f'node{part.node}/ended')}"
        for part in joined.named_parts(record)
    )


def _ranks(record: Record) -> tuple[str, ...]:
    from repro.audit.ranks import sentences

    return sentences(record)


def _replicas(record: Record) -> tuple[str, ...]:
    from repro.audit.trace.replicas import sentences

    return sentences(record)


def _self_check(record: Record) -> str:
    from repro.audit.selfcheck import sentence

    return sentence(record).removeprefix("Self-check").lstrip(": ")


def _is_trace_off(record: Record) -> bool:
    return record.fact("trace", "every") == "off"


def _determinism(record: Record) -> str:
    """Say what was asked of numeric libraries, and how much came in the way; nothing if neither."""
    names = [fact.name for fact in record.facts if fact.topic == "determinism"]
    operations, changes = (sum(name.startswith(kind) for name in names) for kind in ("operation.", "change."))
    mode = record.fact("determinism", "mode") or "off"
    said = [mode] if mode != "off" or operations or changes else []
    said += [f"operations without a deterministic implementation: {operations}"] * (operations > 0)
    said += [f"changes by the training: {changes}"] * (changes > 0)
    return ", ".join(said)


def _lineage(record: Record) -> str:
    from repro.audit.lineage import lineage

    found = lineage(record)
    return f"{found.status}, watched by {found.layers}"


def _dataset_row(row: Dataset) -> tuple[str, ...]:
    files = "1 file" if row.file_count == 1 else f"{row.file_count:,} files"
    return (row.name, row.kind, files, _size(row.size_bytes), _short(row.digest), row.reference or "")


def _data_row(row: DataFile) -> tuple[str, ...]:
    changed = "changed during the run" if row.changed_during_run else ""
    return (row.role, row.path, _short(row.digest), _size(row.size_bytes), f"seen by {row.seen_by}", changed)


def _by_metric(record: Record) -> list[list[Metric]]:
    series: dict[tuple[str, str], list[Metric]] = {}
    for metric in record.metrics:
        series.setdefault((metric.process_key, metric.name), []).append(metric)
    return list(series.values())


def _metric_row(points: list[Metric]) -> tuple[str, ...]:
    first, last = points[0], points[-1]
    return (
        first.process_key,
        first.name,
        f"{len(points)} points",
        f"{first.value:.6g} → {last.value:.6g}",
        first.dtype,
    )


def _traced(record: Record) -> list[tuple[tuple[str, str], list[int]]]:
    """Return the steps that were traced, by process and anchor."""
    steps: dict[tuple[str, str], dict[int, None]] = {}
    for row in record.fingerprints:
        steps.setdefault((row.process_key, row.anchor), {})[row.step] = None
    return [(key, sorted(found)) for key, found in steps.items()]


def _models(record: Record) -> list[tuple[str, ...]]:
    from repro.audit.models import model_rows

    return [(*row[:-1], _short(row[-1])) for row in model_rows(record)]


def _trace_row(record: Record, process_key: str, anchor: str, steps: list[int]) -> tuple[str, ...]:
    told = {s.name: s.value for s in record.settings if s.process_key == process_key and s.name.startswith("trace.")}
    every, all_steps = told.get("trace.every"), told.get(f"trace.steps.{anchor}")
    passes = 0 if all_steps else sum((m.process_key, m.name) == (process_key, "loss") for m in record.metrics)
    tensors = {t.name for t in record.traced_tensors if (t.process_key, t.anchor) == (process_key, anchor)}
    broken = record.fact("trace", f"chain.{process_key}") == "broken"
    return (
        process_key,
        anchor,
        f"{len(steps):,}{_of(all_steps)} steps traced, the last {steps[-1]:,}",
        _of_whole(record, process_key, anchor, all_steps),
        f"of {passes:,} backward passes" if passes else "",
        f"every {every}, and powers of two" if every else "the first steps, and powers of two",
        f"{len(tensors):,} tensors",
        "its chain is broken" if broken else "its chain is intact",
    )


def _of(all_steps: str | None) -> str:
    """Say of how many steps it is; nothing where the process did not get to tell."""
    return f" of {int(all_steps):,}" if all_steps and all_steps.isdecimal() else ""


def _of_whole(record: Record, process_key: str, anchor: str, all_steps: str | None) -> str:
    """Say which steps of the whole training these are, where the anchor goes on from another run."""
    from repro.evidence.goingon import goes_on_at

    before = goes_on_at(record).get((process_key, anchor))
    if before is None:
        return ""
    end = f"to {before + int(all_steps) - 1:,}" if all_steps and all_steps.isdecimal() else "on"
    return f"steps {before:,} {end} of the whole training"


def _goes_on(record: Record) -> list[str]:
    from repro.audit import goingon

    others = [
        f"{link.process_key} read what run {link.from_run_id} wrote, and goes on from nothing in it"
        for link in goingon.other_links(record)
    ]
    return [*goingon.phrases(record), *others]


def _checkpoint_row(row: Checkpoint) -> tuple[str, ...]:
    steps = row.steps.strip("{}").replace('"', "").replace(",", ", ")
    where = row.path or "in memory"
    return (row.process_key, row.action, where, steps, f"{row.tensor_count:,} tensors", _short(row.digest))


def _short(digest: str | None) -> str:
    return digest[:19] if digest else "not hashed"


def _size(size_bytes: int | None) -> str:
    """Write a size in the largest binary unit that keeps it above one."""
    from repro.audit.wording import size

    return "?" if size_bytes is None else size(size_bytes)
