"""Accelerate: what `Accelerator.log` is given, with or without trackers, on the main process as it does itself."""

from __future__ import annotations

from ..metrics import shared

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

MODULES = ("accelerate.accelerator",)


def install(module: Any, agent: Agent) -> None:
    """Watch `Accelerator.log`."""

    def before(args: Any, kwargs: Any) -> None:
        if args[0].is_main_process:
            values = args[1] if len(args) > 1 else kwargs["values"]
            step = args[2] if len(args) > 2 else kwargs.get("step")
            shared(agent).tell_all("accelerate", values, step)

    accelerator = module.Accelerator
    accelerator.log = agent.wrap(accelerator.log, before, "trace", "Accelerator.log")
