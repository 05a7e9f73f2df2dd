"""click: the parameters of each command that is invoked, defaults and prompts included."""

from __future__ import annotations

from ..commands import watch_commands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

MODULES = ("click.core",)


def install(module: Any, agent: Agent) -> None:
    """Watch `Command.invoke`."""
    watch_commands(module, agent, "click", module.__file__.rpartition("/")[0] + "/")
