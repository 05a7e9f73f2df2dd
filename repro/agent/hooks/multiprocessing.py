"""Children of `multiprocessing`: forked ones leave by `os._exit`, started ones race for their keys: both put right."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

MODULES = ("multiprocessing.util",)

_LAST = -1_000_000


def install(module: Any, agent: Agent) -> None:
    """See children end, and claim the keys of those that are started, not forked, in the order they are started in."""
    module.register_after_fork(agent, lambda agent: module.Finalize(None, agent.end, exitpriority=_LAST))
    original = module.spawnv_passfds

    def spawnv_passfds(path: Any, args: Any, passfds: Any) -> Any:
        key = agent.guard("agent", "multiprocessing", agent.claim_for_child, "-c")
        if key is None:
            return original(path, args, passfds)
        with agent.hand_over(key):
            return original(path, args, passfds)

    module.spawnv_passfds = spawnv_passfds
