"""Environment variables: the values of those that are known to bear on a run; of all others the name and a commitment.

A commitment (`repro.evidence.commitment`) lets a replay say whether a variable has the recorded value.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Final

from repro.evidence.canonical import storable
from repro.evidence.model import Fact
from repro.record import redact
from repro.record.capture import Context, Findings, observed

_STORED: Final = re.compile(
    r"LANG|LC_.*|TZ|PYTHON.*|VIRTUAL_ENV|CONDA_PREFIX|CONDA_DEFAULT_ENV"
    r"|(OMP|MKL|OPENBLAS|NUMEXPR|ATEN|ONEDNN|DNNL|KMP|GOMP|BLIS|VECLIB)_.*"
    r"|(TORCH|PYTORCH|TORCHINDUCTOR|TORCHDYNAMO|TRITON|CUDA|CUBLAS|CUDNN|NCCL|GLOO|TF|XLA|JAX|KERAS|ACCELERATE|FSDP)_.*"
    r"|(NVTE|FLASH_ATTENTION)_.*|NVIDIA_TF32_OVERRIDE|HF_.*_OFFLINE|TRANSFORMERS_OFFLINE|TOKENIZERS_PARALLELISM"
    r"|RANK|WORLD_SIZE|LOCAL_RANK|LOCAL_WORLD_SIZE|MASTER_ADDR|MASTER_PORT|SLURM_.*"
)
_MAX_COSTLY: Final = 100
"""Commitments that cost 20 ms each; beyond, the variables are named in `other_variables` alone."""


def before(context: Context) -> Findings:
    """Record the allow-listed variables, and the bare names of the rest."""
    stored = {name for name in context.environment if _is_stored(name, context.environment[name])}
    others = sorted(storable(name) for name in context.environment if name not in stored)
    facts = [observed("variable", name, redact.url(storable(context.environment[name]))) for name in sorted(stored)]
    facts.append(observed("environment", "other_variables", ",".join(others)))
    return Findings(facts=tuple(facts))


def alongside(context: Context) -> Findings:
    """Commit to the values that were not stored, or not in full."""
    from repro.evidence import commitment

    salt = os.urandom(commitment.SALT_BYTES).hex()
    return Findings(facts=(observed("environment", "commitment_salt", salt), *_commitments(context, salt)))


def _is_stored(name: str, value: str) -> bool:
    return _STORED.fullmatch(name) is not None and not redact.is_secret_variable(name) and not redact.has_token(value)


def _commitments(context: Context, salt: str) -> Iterator[Fact]:
    from repro.evidence import commitment

    costly = 0
    for name, value in sorted(context.environment.items()):
        if _is_stored(name, value) and redact.url(value) == value:
            continue
        secret = redact.is_secret_variable(name) or redact.text(value) != value
        costly += secret
        if not secret or costly <= _MAX_COSTLY:
            yield observed("commitment", storable(name), commitment.commit(salt, name, value, secret=secret))
