"""XGBoost: the parameters of `train` and `cv`, and each evaluation set's metrics after each iteration, as `SET.METRIC`.

What the scikit-learn interface trains goes through `train`, too. In `cv`, a metric is the mean of the folds, and their
standard deviation stands beside it as `SET.METRIC.std`.
"""

from __future__ import annotations

from ..boosting import Owners, watch_parameters
from ..hyperparameters import after
from ..metrics import shared

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

MODULES = ("xgboost.callback", "xgboost.training")


def install(module: Any, agent: Agent) -> None:
    """Watch the part of it that was just imported."""
    if module.__name__ == "xgboost.callback":
        _watch_metrics(module, agent)
    else:
        watch_parameters(module, "train", agent, "xgboost")
        watch_parameters(module, "cv", agent, "xgboost")


def _watch_metrics(module: Any, agent: Agent) -> None:
    owners = Owners()

    def told(result: Any, args: Any, kwargs: Any) -> None:
        container = args[0]
        iteration = args[2] if len(args) > 2 else kwargs["epoch"]
        for data, metrics in container.history.items():
            for metric, values in metrics.items():
                for name, value in _named(f"{data}.{metric}", values[-1]):
                    shared(agent).tell("xgboost", name, value, iteration, owners[container])

    container = module.CallbackContainer
    container.after_iteration = after(agent, container.after_iteration, told, "xgboost metrics")


def _named(name: str, value: Any) -> list[tuple[str, Any]]:
    return [(name, value[0]), (f"{name}.std", value[1])] if isinstance(value, tuple) else [(name, value)]
