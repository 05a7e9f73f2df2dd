"""Process groups, and the settings of the library that sums over ranks, as they stand.

In what order NCCL adds up depends on its algorithm and protocol, which it chooses itself unless variables fix them, and
on the version, the channels and the topology. What it chose it tells only in its own log; the variables and the version
are what can be had in the process.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from repro.agent import Agent

VARIABLES = (
    "GLOO_DEVICE_TRANSPORT",
    "NCCL_ALGO",
    "NCCL_BUFFSIZE",
    "NCCL_COLLNET_ENABLE",
    "NCCL_CROSS_NIC",
    "NCCL_GRAPH_FILE",
    "NCCL_IB_DISABLE",
    "NCCL_LAUNCH_MODE",
    "NCCL_MAX_NCHANNELS",
    "NCCL_MIN_NCHANNELS",
    "NCCL_NTHREADS",
    "NCCL_NVLS_ENABLE",
    "NCCL_P2P_DISABLE",
    "NCCL_P2P_LEVEL",
    "NCCL_PROTO",
    "NCCL_SHM_DISABLE",
    "NCCL_THREAD_THRESHOLDS",
    "NCCL_TOPO_FILE",
    "NCCL_TREE_THRESHOLD",
    "NCCL_TUNER_PLUGIN",
)
"""Of the environment, as the process has them when it trains: a script may set them after it was started."""


def tell_groups(agent: Agent, torch: Any, moment: str) -> None:
    """Tell the process groups and what bears on their sums; nothing where there is no group."""
    distributed = getattr(torch, "distributed", None)
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return
    for name, value in _settings(torch, distributed):
        agent.emit("setting", moment=moment, name=f"distributed.{name}", value=value)


def _settings(torch: Any, distributed: Any) -> Iterator[tuple[str, str]]:
    backend = str(distributed.get_backend())
    yield "backend", backend
    yield "world_size", str(distributed.get_world_size())
    yield "groups", _groups(distributed)
    if "nccl" in backend:
        yield "nccl.version", _nccl_version(torch)
    for name in VARIABLES:
        value = os.environ.get(name)
        if value is not None:
            yield name, value


def _groups(distributed: Any) -> str:
    """Return backend and size of each group that this process is in, in the order in which they were made."""
    try:
        world = distributed.distributed_c10d._world
        return ", ".join([f"{backend} of {group.size()}" for group, (backend, _) in world.pg_map.items()])
    except (AttributeError, TypeError, ValueError) as error:
        return f"unreadable: {type(error).__name__}"


def _nccl_version(torch: Any) -> str:
    try:
        version = torch.cuda.nccl.version()
    except (AttributeError, RuntimeError) as error:
        return f"unreadable: {str(error)[:120]}"
    return ".".join(map(str, version)) if isinstance(version, tuple) else str(version)
