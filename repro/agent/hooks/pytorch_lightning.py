"""PyTorch Lightning, imported as `pytorch_lightning`."""

from __future__ import annotations

from ..lightning import watch_command_line, watch_hyperparameters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

MODULES = ("pytorch_lightning.core.mixins.hparams_mixin", "pytorch_lightning.cli")


def install(module: Any, agent: Agent) -> None:
    """Watch the part of it that was just imported."""
    if module.__name__.endswith(".cli"):
        watch_command_line(module, agent)
    else:
        watch_hyperparameters(module, agent)
