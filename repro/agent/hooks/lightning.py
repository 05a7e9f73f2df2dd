"""PyTorch Lightning as `lightning.pytorch`, and Lightning Fabric."""

from __future__ import annotations

from ..lightning import watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

MODULES = (
    "lightning.pytorch.core.mixins.hparams_mixin",
    "lightning.pytorch.cli",
    "lightning.pytorch.trainer.connectors.logger_connector.logger_connector",
    "lightning.fabric.fabric",
)


def install(module: Any, agent: Agent) -> None:
    """Watch the part of it that was just imported."""
    watch(module, agent)
