"""Readers of events: one function for each kind, which puts what an event says among `Events`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, Literal, cast

from repro.evidence.model import Entropy, Gap, GeneratorState, Metric, Seed, Setting
from repro.record.eventlog.kinds import Determinism, Exit, Log, Open, Remove, Rename, Spawn, Start
from repro.record.eventlog.states import on_checkpoint, on_model, on_operation
from repro.record.eventlog.trace import on_hyperparameter, on_tensors, on_trace
from repro.record.eventlog.values import integer, maybe_integer, named_moment, real, text, words

SCHEMA: Final = 1


def start_of(event: Mapping[str, Any]) -> Start:
    """Read a start event.

    Raises:
        KeyError, TypeError, ValueError: It is none, or one of another version.
    """
    if event["event"] != "start" or event["schema"] != SCHEMA:
        raise ValueError("not a start event of this version")
    return Start(
        process_key=text(event["process_key"]),
        parent_key=None if event.get("parent_key") is None else text(event["parent_key"]),
        pid=integer(event["pid"]),
        argv=words(event["argv"]),
        executable=text(event["executable"]),
        prefix=text(event["prefix"]),
        base_prefix=text(event["base_prefix"]),
        python_version=text(event["python_version"]),
        implementation=text(event["implementation"]),
        build=text(event["build"]),
        path=words(event["path"]),
        rank=maybe_integer(event.get("rank")),
        world_size=maybe_integer(event.get("world_size")),
        started_at=real(event["started_at"]),
        attempt=integer(event.get("attempt", 0)),
    )


def _on_start(log: Log, event: Mapping[str, Any]) -> None:
    raise ValueError("a second start in one log")


def _on_end(log: Log, event: Mapping[str, Any]) -> None:
    log.events.ended_at[log.start.process_key] = real(event["ended_at"])


def _on_library(log: Log, event: Mapping[str, Any]) -> None:
    log.events.libraries.append((log.start.process_key, text(event["name"]), text(event["version"])))


def _on_open(log: Log, event: Mapping[str, Any]) -> None:
    mode = event["mode"]
    if mode not in ("read", "write"):
        raise ValueError("neither read nor write")
    log.events.opens.append(
        Open(
            process_key=log.start.process_key,
            path=text(event["path"]),
            mode=cast(Literal["read", "write"], mode),
            library=text(event["library"]),
            at=_moment(log, event),
            size_bytes=maybe_integer(event.get("size")),
            mtime_ns=maybe_integer(event.get("mtime_ns")),
            inode=maybe_integer(event.get("inode"), limit=2**64 - 1),
            existed=bool(event.get("existed", False)),
            ctime_ns=maybe_integer(event.get("ctime_ns")),
            device=maybe_integer(event.get("device"), limit=2**64 - 1),
        )
    )


def _on_rename(log: Log, event: Mapping[str, Any]) -> None:
    source, target = text(event["source"]), text(event["target"])
    at = _moment(log, event)
    log.events.renames.append(Rename(source=source, target=target, at=at, process_key=log.start.process_key))


def _on_remove(log: Log, event: Mapping[str, Any]) -> None:
    path, at = text(event["path"]), _moment(log, event)
    log.events.removes.append(Remove(path=path, at=at, process_key=log.start.process_key))


def _on_canary(log: Log, event: Mapping[str, Any]) -> None:
    log.events.canaries.add(log.start.process_key)


def _on_spawn(log: Log, event: Mapping[str, Any]) -> None:
    argv = words(event["argv"])
    log.events.spawns.append(
        Spawn(process_key=log.start.process_key, executable=text(event["executable"] or ""), argv=argv)
    )


def _on_exit(log: Log, event: Mapping[str, Any]) -> None:
    status = event["status"]
    if type(status) is not int or not -64 <= status <= 255:
        raise ValueError("not a status")
    log.events.exits.append(Exit(pid=integer(event["pid"]), status=status, at=_moment(log, event)))


def _on_group(log: Log, event: Mapping[str, Any]) -> None:
    rank, size = integer(event["rank"]), integer(event["world_size"])
    if not rank < size:
        raise ValueError("not a rank of such a group")
    if log.start.rank is None:
        log.start = log.events.starts[-1] = replace(log.start, rank=rank, world_size=size)


def _on_seed(log: Log, event: Mapping[str, Any]) -> None:
    function = text(event["function"])
    log.events.seeds.append(
        Seed(
            process_key=log.start.process_key,
            ordinal=integer(event["ordinal"]),
            function=function,
            argument=text(event["argument"]),
            site=text(event["site"]),
        )
    )
    if event.get("substituted"):
        log.events.substituted.append((log.start.process_key, function))


def _on_entropy(log: Log, event: Mapping[str, Any]) -> None:
    stream = text(event["stream"])
    log.events.entropy.append(
        Entropy(
            process_key=log.start.process_key,
            stream=stream,
            ordinal=integer(event["ordinal"]),
            value=text(event["value"]),
            site=text(event["site"]),
        )
    )
    if event.get("substituted"):
        log.events.substituted.append((log.start.process_key, stream))


def _on_generator(log: Log, event: Mapping[str, Any]) -> None:
    moment, generator = named_moment(event["moment"]), text(event["generator"])
    log.events.states.append(
        GeneratorState(
            process_key=log.start.process_key, moment=moment, generator=generator, sha256=text(event["sha256"])
        )
    )


def _on_setting(log: Log, event: Mapping[str, Any]) -> None:
    moment, name = named_moment(event["moment"]), text(event["name"])
    log.events.settings.append(
        Setting(process_key=log.start.process_key, moment=moment, name=name, value=text(event["value"]))
    )


def _on_determinism(log: Log, event: Mapping[str, Any]) -> None:
    kind = event["kind"]
    if kind not in ("change", "operation"):
        raise ValueError("neither change nor operation")
    log.events.determinism.append(
        Determinism(
            process_key=log.start.process_key,
            kind=cast(Literal["change", "operation"], kind),
            name=text(event["name"]),
            before=None if event["before"] is None else text(event["before"]),
            value=text(event["value"]),
            site=text(event["site"]),
        )
    )


def _on_metric(log: Log, event: Mapping[str, Any]) -> None:
    log.events.metrics.append(
        Metric(
            process_key=log.start.process_key,
            name=text(event["name"]),
            step=integer(event["step"]),
            value=float.fromhex(event["value"]),
            dtype=text(event["dtype"]),
            at_seconds=real(event["at"]),
        )
    )


def _on_series(log: Log, event: Mapping[str, Any]) -> None:
    log.series[integer(event["number"])] = (text(event["name"]), text(event["dtype"]))


def _on_mapped(log: Log, event: Mapping[str, Any]) -> None:
    log.events.mapped.update(words(event["paths"]))


def _on_gap(log: Log, event: Mapping[str, Any]) -> None:
    topic, subject, reason = text(event["topic"]), text(event["subject"]), text(event["reason"])
    log.events.gaps.append(Gap(topic=topic, subject=subject, reason=reason))


READERS: Final[dict[str, Callable[[Log, Mapping[str, Any]], None]]] = {
    "start": _on_start,
    "end": _on_end,
    "library": _on_library,
    "open": _on_open,
    "rename": _on_rename,
    "remove": _on_remove,
    "canary": _on_canary,
    "spawn": _on_spawn,
    "exit": _on_exit,
    "group": _on_group,
    "seed": _on_seed,
    "entropy": _on_entropy,
    "generator": _on_generator,
    "setting": _on_setting,
    "determinism": _on_determinism,
    "metric": _on_metric,
    "series": _on_series,
    "tensors": on_tensors,
    "trace": on_trace,
    "hyperparameter": on_hyperparameter,
    "model": on_model,
    "checkpoint": on_checkpoint,
    "operation": on_operation,
    "mapped": _on_mapped,
    "gap": _on_gap,
}
"""Kind of event to its reader, which raises `KeyError`, `TypeError`, `ValueError` or `OverflowError` at a bad one."""


def _moment(log: Log, event: Mapping[str, Any]) -> float:
    """Return when an event happened, in seconds since the epoch; the log counts from the start of its process."""
    return log.start.started_at + real(event.get("at", 0.0))
