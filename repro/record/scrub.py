"""The last look at a record before it is sealed: nothing that looks like a secret leaves in a row.

Captures redact what they know to be dangerous. This is the net below them: gaps quote the messages of other programs,
and arguments, addresses and paths come from anywhere.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Final, TypeVar

from repro.evidence.model import (
    Checkpoint,
    CheckpointTensor,
    DataFile,
    Dataset,
    Entropy,
    Fact,
    Gap,
    Hyperparameter,
    ModelTensor,
    Operation,
    Package,
    Program,
    Record,
    Seed,
    TracedTensor,
)
from repro.record import redact

_Tensor = TypeVar("_Tensor", TracedTensor, ModelTensor, CheckpointTensor)

_OPAQUE: Final = ("commitment", "stream")
"""Topics whose values are digests."""


def clean(record: Record) -> Record:
    """Return the record without secrets: in gaps, facts, command lines, hyperparameters, addresses and sites."""
    return replace(
        record,
        facts=tuple(map(_fact, record.facts)),
        gaps=tuple(dict.fromkeys(map(_gap, record.gaps))),
        packages=tuple(map(_package, record.packages)),
        data_files=tuple(map(_data_file, record.data_files)),
        datasets=tuple(map(_dataset, record.datasets)),
        programs=tuple(map(_program, record.programs)),
        seeds=tuple(map(_seed, record.seeds)),
        entropy=tuple(map(_entropy, record.entropy)),
        traced_tensors=tuple(map(_named, record.traced_tensors)),
        hyperparameters=tuple(map(_hyperparameter, record.hyperparameters)),
        model_tensors=tuple(map(_named, record.model_tensors)),
        checkpoints=tuple(map(_checkpoint, record.checkpoints)),
        checkpoint_tensors=tuple(map(_named, record.checkpoint_tensors)),
        operations=tuple(map(_operation, record.operations)),
    )


@functools.lru_cache(maxsize=4096)
def _tokens(text: str) -> str:
    return redact.tokens(text)


def _fact(fact: Fact) -> Fact:
    value = fact.value if fact.topic in _OPAQUE else redact.tokens(fact.value)
    return fact if value == fact.value else replace(fact, value=value)


def _gap(gap: Gap) -> Gap:
    subject, reason = redact.text(gap.subject), redact.text(gap.reason)
    return gap if (subject, reason) == (gap.subject, gap.reason) else replace(gap, subject=subject, reason=reason)


def _package(package: Package) -> Package:
    return package if package.direct_url is None else replace(package, direct_url=redact.tokens(package.direct_url))


def _data_file(file: DataFile) -> DataFile:
    return replace(file, path=redact.url(file.path)) if "://" in file.path else file


def _dataset(dataset: Dataset) -> Dataset:
    reference = None if dataset.reference is None else redact.tokens(dataset.reference)
    return replace(dataset, name=redact.url(dataset.name), reference=reference)


def _program(program: Program) -> Program:
    return replace(program, argv=redact.argv(program.argv)[0])


def _seed(seed: Seed) -> Seed:
    site, argument = _tokens(seed.site), _tokens(seed.argument)
    return seed if (site, argument) == (seed.site, seed.argument) else replace(seed, site=site, argument=argument)


def _entropy(entropy: Entropy) -> Entropy:
    site = _tokens(entropy.site)
    return entropy if site == entropy.site else replace(entropy, site=site)


def _named(tensor: _Tensor) -> _Tensor:
    name = _tokens(tensor.name)
    return tensor if name == tensor.name else replace(tensor, name=name)


def _hyperparameter(given: Hyperparameter) -> Hyperparameter:
    value = redact.value(given.name, given.value)
    return replace(given, name=_tokens(given.name), value=value, site=_tokens(given.site))


def _checkpoint(written: Checkpoint) -> Checkpoint:
    path = redact.url(written.path) if "://" in written.path else written.path
    return written if path == written.path else replace(written, path=path)


def _operation(called: Operation) -> Operation:
    site = _tokens(called.site)
    return called if site == called.site else replace(called, site=site)
