"""tensorboardX: the scalars and hyperparameters that are given to its `SummaryWriter`."""

from __future__ import annotations

from .. import summary_writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

MODULES = ("tensorboardX.writer",)


def install(module: Any, agent: Agent) -> None:
    """Watch the writer."""
    summary_writer.watch(module, agent, "tensorboardX")
