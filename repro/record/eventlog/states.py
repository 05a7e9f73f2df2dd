"""Readers of models, checkpoints and operations: `docs/adr/0011-checkpoints-models-and-operations.md`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, cast, get_args

from repro.evidence.canonical import dumps
from repro.evidence.model import (
    Checkpoint,
    CheckpointState,
    CheckpointTensor,
    Model,
    ModelModule,
    ModelTensor,
    Operation,
)
from repro.evidence.states import TensorKind
from repro.record.eventlog.kinds import Log
from repro.record.eventlog.values import fingerprints, integer, maybe_digest, real, shape, text, words

_WORD: Final = 16
_KINDS: Final = get_args(TensorKind)


def on_model(log: Log, event: Mapping[str, Any]) -> None:
    """Read a tree of modules and what its tensors held."""
    key, events = log.start.process_key, log.events
    ordinal = log.told["model"]
    modules = tuple(
        ModelModule(process_key=key, model=ordinal, place=place, path=path, class_name=class_name)
        for place, (path, class_name) in enumerate(map(words, event["modules"]))
    )
    tensors = tuple(_model_tensors(key, ordinal, event))
    lines = [f"module {row.path} {row.class_name}" for row in modules]
    lines += [f"tensor {row.name} {row.kind} {row.dtype} {row.shape} {row.word}" for row in tensors]
    events.models.append(
        Model(
            process_key=key,
            ordinal=ordinal,
            anchor=text(event["anchor"]),
            step=integer(event["step"]),
            class_name=modules[0].class_name,
            digest=_digest(lines),
        )
    )
    events.model_modules += modules
    events.model_tensors += tensors
    log.told["model"] += 1


def _model_tensors(key: str, model: int, event: Mapping[str, Any]) -> Iterable[ModelTensor]:
    columns = zip(
        words(event["names"]),
        words(event["kinds"]),
        map(shape, event["shapes"]),
        words(event["dtypes"]),
        words(event["devices"]),
        _split(event["words"]),
        strict=True,
    )
    for place, (name, kind, extent, dtype, device, word) in enumerate(columns):
        if kind not in _KINDS:
            raise ValueError("no kind of tensor")
        yield ModelTensor(
            process_key=key,
            model=model,
            place=place,
            name=name,
            kind=cast(TensorKind, kind),
            shape=extent,
            dtype=dtype,
            device=device,
            word=word,
        )


def on_checkpoint(log: Log, event: Mapping[str, Any]) -> None:
    """Read a file of tensors that was written or read."""
    key, events = log.start.process_key, log.events
    ordinal = log.told["checkpoint"]
    action = event["action"]
    if action not in ("written", "read"):
        raise ValueError("neither written nor read")
    columns = (
        words(event["names"]),
        map(shape, event["shapes"]),
        words(event["dtypes"]),
        _split(event["words"]),
    )
    tensors = tuple(
        CheckpointTensor(
            process_key=key, checkpoint=ordinal, place=place, name=name, shape=extent, dtype=dtype, word=word
        )
        for place, (name, extent, dtype, word) in enumerate(zip(*columns, strict=True))
    )
    states = tuple(
        CheckpointState(process_key=key, checkpoint=ordinal, name=text(name), value=text(value))
        for name, value in sorted(event["state"].items())
    )
    steps = {text(anchor): integer(count) for anchor, count in event["steps"].items()}
    events.checkpoints.append(
        Checkpoint(
            process_key=key,
            ordinal=ordinal,
            action=cast(Literal["written", "read"], action),
            path=text(event["path"]),
            library=text(event["library"]),
            steps=dumps(steps).decode(),
            tensor_count=len(tensors),
            digest=_digest(sorted(f"{row.name} {row.dtype} {row.shape} {row.word}" for row in tensors)),
            file_digest=maybe_digest(event["sha256"]),
            at_seconds=real(event["at"]),
        )
    )
    sizes = (event.get(name) for name in ("size", "mtime_ns"))
    size, mtime_ns = (None if value is None else integer(value) for value in sizes)
    events.checkpoint_files[key, ordinal] = size, mtime_ns
    events.checkpoint_tensors += tensors
    events.checkpoint_states += states
    log.told["checkpoint"] += 1


def on_operation(log: Log, event: Mapping[str, Any]) -> None:
    """Read one operation of a step."""
    key, anchor, step = log.start.process_key, text(event["anchor"]), integer(event["step"])
    log.events.operations.append(
        Operation(
            process_key=key,
            anchor=anchor,
            step=step,
            place=log.operations[anchor, step],
            name=text(event["name"]),
            inputs=text(event["inputs"]),
            words=fingerprints(event["words"]),
            site=text(event["site"]),
        )
    )
    log.operations[anchor, step] += 1


def _digest(lines: Sequence[str]) -> str:
    content = "".join(f"{line}\n" for line in lines)
    return f"sha256:{hashlib.sha256(content.encode()).hexdigest()}"


def _split(value: object) -> list[str]:
    held = fingerprints(value)
    return [held[start : start + _WORD] for start in range(0, len(held), _WORD)]
