"""Entropy that code draws from the kernel by itself: `os.urandom`, and with it `secrets` and `random.SystemRandom`.

Such bytes become tokens and keys, so they are neither kept nor put back: only who draws them is told, and how often.
Where they seed a generator, the seed is recorded and put back by the hook of that generator.
"""

from __future__ import annotations

from .callers import LIBRARY, USER, Callers, StandIn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

MOST_SITES = 1_000
"""How many calling lines are told per process; a gap says when there are more."""


class KernelEntropy:
    """Draws of one process. What the standard library draws for itself, or a hook sees as a whole, is passed over.

    Args:
        agent: Where to tell them.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._callers = Callers("random", "secrets")
        self._forget()
        agent.on_fork(self._forget)
        agent.on_moment(self._at_moment)

    def watch(self, module: Any) -> None:
        """Take the places of `os.urandom` and `os.getrandom`."""
        for name in ("urandom", "getrandom"):
            if hasattr(module, name):
                setattr(module, name, StandIn(getattr(module, name), "os", self._after))

    def _forget(self) -> None:
        self._calls: dict[str, int] = {}

    def _after(self, drawn: Any, args: Any, kwargs: Any) -> Any:
        site = self._callers.site(USER, LIBRARY)
        if site is not None:
            self._agent.guard("randomness", "os.urandom", self._tell, site, len(drawn))
        return drawn

    def _tell(self, site: str, size_bytes: int) -> None:
        calls = self._calls.get(site, 0)
        if calls == 0 and len(self._calls) >= MOST_SITES:
            self._agent.gap("randomness", "os.urandom", f"more than {MOST_SITES} lines call it; the rest is not told")
            return
        self._calls[site] = calls + 1
        if calls == 0:
            argument = f"{size_bytes} bytes of the kernel's, not kept"
            ordinal = len(self._calls) - 1
            self._agent.emit(
                "seed", function="os.urandom", ordinal=ordinal, argument=argument, site=site, substituted=False
            )

    def _at_moment(self, moment: str) -> None:
        if moment == "end" and self._calls:
            text = "; ".join([f"{calls} at {site}" for site, calls in self._calls.items()])
            self._agent.emit("setting", moment=moment, name="os.urandom.calls", value=text)
