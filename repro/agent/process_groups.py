"""Process groups of PyTorch: which rank this process is, where no variable said so when it started.

Ranks that `multiprocessing.spawn`, Lightning's own launchers or a notebook start learn their rank as an argument, or
set `RANK` themselves. It is told when they join the default group; `trace.groups` tells what sums over it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent


def watch(module: Any, agent: Agent) -> None:
    """Watch `init_process_group`, and tell the rank it gave this process.

    Args:
        module: `torch.distributed.distributed_c10d`, from which `torch.distributed` takes its names afterwards.
        agent: Where to tell it.
    """
    told: list[tuple[Any, ...]] = []
    agent.on_fork(told.clear)

    def before(args: Any, kwargs: Any) -> None:
        return None

    def after() -> None:
        joined = (module.get_rank(), module.get_world_size())
        if joined[0] >= 0 and joined not in told:
            told.append(joined)
            agent.emit("group", rank=joined[0], world_size=joined[1])

    module.init_process_group = agent.wrap(module.init_process_group, before, "trace", "init_process_group", after)
