"""PyTorch Lightning, imported as `lightning.pytorch`."""

from __future__ import annotations

from ..lightning import watch_command_line, watch_hyperparameters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

MODULES = ("lightning.pytorch.core.mixins.hparams_mixin", "lightning.pytorch.cli")


def install(module: Any, agent: Agent) -> None:
    """Watch the part of it that was just imported."""
    if module.__name__.endswith(".cli"):
        watch_command_line(module, agent)
    else:
        watch_hyperparameters(module, agent)
