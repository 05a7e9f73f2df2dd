"""Lightning Fabric under its older name."""

from __future__ import annotations

from ..lightning import watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

MODULES = ("lightning_fabric.fabric",)


def install(module: Any, agent: Agent) -> None:
    """Watch the part of it that was just imported."""
    watch(module, agent)
