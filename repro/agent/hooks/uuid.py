"""`uuid.uuid4`, which names run directories. Stream: `uuid.uuid4`, in hexadecimal."""

from __future__ import annotations

from .. import disguise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

MODULES = ("uuid",)


def install(module: Any, agent: Agent) -> None:
    """Watch `uuid4`."""
    original = module.uuid4

    def uuid4() -> Any:
        drawn = original()
        kept = agent.guard("randomness", "uuid.uuid4", agent.entropy, "uuid.uuid4", drawn.hex, module.__file__)
        return drawn if kept is None or kept == drawn.hex else module.UUID(hex=kept)

    module.uuid4 = disguise(uuid4, original)
