"""Environment variables: the values of those that are known to bear on a run, the names of all others."""

from __future__ import annotations

import re
from typing import Final

from repro.evidence.canonical import storable
from repro.record.capture import Context, Findings, observed
from repro.record.redact import is_secret_variable, url

_STORED: Final = re.compile(
    r"LANG|LC_.*|TZ|PYTHON.*|VIRTUAL_ENV|CONDA_PREFIX|CONDA_DEFAULT_ENV"
    r"|(OMP|MKL|OPENBLAS|NUMEXPR|ATEN|ONEDNN|DNNL|KMP|GOMP|BLIS|VECLIB)_.*"
    r"|(TORCH|PYTORCH|TORCHINDUCTOR|TRITON|CUDA|CUBLAS|CUDNN|NCCL|GLOO|TF|XLA|JAX)_.*"
    r"|NVIDIA_TF32_OVERRIDE|HF_.*_OFFLINE|TRANSFORMERS_OFFLINE|TOKENIZERS_PARALLELISM"
    r"|RANK|WORLD_SIZE|LOCAL_RANK|LOCAL_WORLD_SIZE|MASTER_ADDR|MASTER_PORT|SLURM_.*"
)


def before(context: Context) -> Findings:
    """Record the allow-listed variables, and the bare names of the rest."""
    stored = {name for name in context.environment if _STORED.fullmatch(name) and not is_secret_variable(name)}
    others = sorted(storable(name) for name in context.environment if name not in stored)
    facts = [observed("variable", name, url(storable(context.environment[name]))) for name in sorted(stored)]
    facts.append(observed("environment", "other_variables", ",".join(others)))
    return Findings(facts=tuple(facts))
