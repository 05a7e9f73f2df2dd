"""UUIDs made from chance or time, which name run directories. Streams: `uuid.uuid4` and so on, in hexadecimal."""

from __future__ import annotations

from .. import disguise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

MODULES = ("uuid",)


def install(module: Any, agent: Agent) -> None:
    """Watch the functions that draw one; versions 6 and 7 are there from Python 3.14 on."""
    for name in ("uuid1", "uuid4", *(later for later in ("uuid6", "uuid7") if hasattr(module, later))):
        _watch(module, name, agent)


def _watch(module: Any, name: str, agent: Agent) -> None:
    original, stream = getattr(module, name), f"uuid.{name}"

    def draw(*args: Any, **kwargs: Any) -> Any:
        drawn = original(*args, **kwargs)
        kept = agent.guard("randomness", stream, agent.entropy, stream, drawn.hex, module.__file__)
        return drawn if kept is None or kept == drawn.hex else module.UUID(hex=kept, is_safe=drawn.is_safe)

    setattr(module, name, disguise(draw, original))
