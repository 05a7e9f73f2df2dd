"""Keras 3: what each epoch of `fit` ends with, losses and metrics of training and validation; the step is the epoch."""

from __future__ import annotations

from ..metrics import shared

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

MODULES = ("keras.src.callbacks.history",)


def install(module: Any, agent: Agent) -> None:
    """Watch `History`, the callback that every `fit` has."""

    def before(args: Any, kwargs: Any) -> None:
        logs = args[2] if len(args) > 2 else kwargs.get("logs")
        shared(agent).tell_all("keras", dict(logs or {}), args[1] if len(args) > 1 else kwargs["epoch"])

    history = module.History
    history.on_epoch_end = agent.wrap(history.on_epoch_end, before, "trace", "keras metrics")
