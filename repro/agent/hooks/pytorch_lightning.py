"""PyTorch Lightning under its older name."""

from __future__ import annotations

from ..lightning import watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

MODULES = (
    "pytorch_lightning.core.mixins.hparams_mixin",
    "pytorch_lightning.cli",
    "pytorch_lightning.trainer.connectors.logger_connector.logger_connector",
)


def install(module: Any, agent: Agent) -> None:
    """Watch the part of it that was just imported."""
    watch(module, agent)
