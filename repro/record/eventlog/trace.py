"""Readers of the trace and of hyperparameters: what stands in many lines is counted and checked across them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from repro.evidence.model import Fingerprint, Gap, Hyperparameter, TracedTensor
from repro.record.eventlog.kinds import Log
from repro.record.eventlog.values import fingerprints, integer, link, real, shape, text, words


def on_tensors(log: Log, event: Mapping[str, Any]) -> None:
    """Read the list of tensors that later fingerprints are of."""
    key, anchor, step = log.start.process_key, text(event["anchor"]), integer(event["step"])
    names, dtypes, devices = words(event["names"]), words(event["dtypes"]), words(event["devices"])
    shapes = [shape(each) for each in event["shapes"]]
    log.events.traced_tensors[key, anchor, step] = tuple(
        TracedTensor(
            process_key=key,
            anchor=anchor,
            step=step,
            ordinal=ordinal,
            name=name,
            shape=extent,
            dtype=dtype,
            device=device,
        )
        for ordinal, (name, extent, dtype, device) in enumerate(zip(names, shapes, dtypes, devices, strict=True))
    )


def on_trace(log: Log, event: Mapping[str, Any]) -> None:
    """Read what one field of one step held, and follow the chain."""
    anchor, step = sys.intern(text(event["anchor"])), integer(event["step"])
    field, held = sys.intern(text(event["field"])), fingerprints(event["words"])
    at_seconds, told = real(event["at"]), link(event["chain"])
    log.chain.add(anchor, step, field, held, told)
    log.events.fingerprints.append(
        Fingerprint(
            process_key=log.start.process_key,
            anchor=anchor,
            step=step,
            place=log.places[anchor, step],
            field=field,
            words=held,
            at_seconds=at_seconds,
        )
    )
    log.places[anchor, step] += 1


def close_chain(log: Log) -> None:
    """Keep the last link of a log's chain; a chain that breaks is a gap."""
    key, chain = log.start.process_key, log.chain
    if chain.length:
        log.events.chains.setdefault(key, chain.head)
    if chain.breaks:
        times = "once" if chain.breaks == 1 else f"{chain.breaks} times"
        reason = f"the chain of its trace breaks {times}, first at {chain.first_break}: lines were changed or lost"
        log.events.gaps.append(Gap(topic="trace", subject=key, reason=reason))


def on_hyperparameter(log: Log, event: Mapping[str, Any]) -> None:
    """Read one value that the run was configured with."""
    source, name = text(event["source"]), text(event["name"])
    value, site = text(event["value"]), text(event["site"])
    log.events.hyperparameters.append(
        Hyperparameter(
            process_key=log.start.process_key,
            source=source,
            name=name,
            ordinal=log.configured[source, name],
            value=value,
            site=site,
        )
    )
    log.configured[source, name] += 1
