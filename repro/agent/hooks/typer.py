"""Typer, where it brings a click of its own, as newer ones do; where it uses the installed click, see that hook."""

from __future__ import annotations

from ..commands import watch_commands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

MODULES = ("typer._click.core",)


def install(module: Any, agent: Agent) -> None:
    """Watch `Command.invoke`."""
    watch_commands(module, agent, "typer", module.__file__.rpartition("/_click/")[0] + "/")
