"""Children of `multiprocessing`: forked ones leave by `os._exit`, started ones race for their keys: both put right.

How each ended is told when the standard library is told, as by `torch.multiprocessing.spawn` of its ranks.
"""

from __future__ import annotations

from .. import disguise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

MODULES = ("multiprocessing.util", "multiprocessing.popen_fork", "multiprocessing.popen_forkserver")

_LAST = -1_000_000


def install(module: Any, agent: Agent) -> None:
    """Watch what is started, and how it ends."""
    if module.__name__ == MODULES[0]:
        _watch_starts(module, agent)
    else:
        _watch_ends(module.Popen, agent)


def _watch_ends(popen: Any, agent: Agent) -> None:
    """Tell how a child ended, once its parent knows; `wait` asks `poll` too."""
    original = popen.poll

    def poll(self: Any, *args: Any, **kwargs: Any) -> Any:
        known = self.returncode
        found = original(self, *args, **kwargs)
        if known is None and isinstance(self.returncode, int):
            agent.emit("exit", pid=self.pid, status=self.returncode, at=agent.seconds())
        return found

    popen.poll = disguise(poll, original)


def _watch_starts(module: Any, agent: Agent) -> None:
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
