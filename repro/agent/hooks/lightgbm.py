"""LightGBM: the parameters of `train` and `cv`, and each data set's metrics after each iteration, as `SET.METRIC`.

What the scikit-learn interface trains goes through `train`, too. In `cv`, each fold has series of its own: those of the
second are named `SET.METRIC#2`.
"""

from __future__ import annotations

from ..boosting import Owners, watch_parameters
from ..hyperparameters import after
from ..metrics import shared

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

MODULES = ("lightgbm.basic", "lightgbm.engine")


def install(module: Any, agent: Agent) -> None:
    """Watch the part of it that was just imported."""
    if module.__name__ == "lightgbm.basic":
        _watch_metrics(module, agent)
    else:
        watch_parameters(module, "train", agent, "lightgbm")
        watch_parameters(module, "cv", agent, "lightgbm")


def _watch_metrics(module: Any, agent: Agent) -> None:
    owners = Owners()

    def told(result: Any, args: Any, kwargs: Any) -> None:
        booster = args[0]
        iteration = booster.current_iteration() - 1
        for data, metric, value, *_ in result:
            shared(agent).tell("lightgbm", f"{data}.{metric}", value, iteration, owners[booster])

    for name in ("eval_train", "eval_valid"):
        original = getattr(module.Booster, name)
        setattr(module.Booster, name, after(agent, original, told, f"lightgbm {name}"))
