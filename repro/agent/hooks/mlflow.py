"""MLflow: metrics and parameters, through `mlflow.log_…`, through `MlflowClient`, and by its autologging.

All of them end at the client, where they are told. `mlflow.log_metric` passes it step 0 where it was given none; so it
is noted, on the way there, that there was none.
"""

from __future__ import annotations

from _thread import _local

from .. import disguise, hyperparameters, metrics
from ..callers import call_site

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from repro.agent import Agent

MODULES = ("mlflow.tracking.client", "mlflow.tracking.fluent")

_calls = _local()


def install(module: Any, agent: Agent) -> None:
    """Watch the client, and the functions that call it for the active run."""
    if module.__name__ == "mlflow.tracking.fluent":
        for name, place in (("log_metric", 2), ("log_metrics", 1)):
            setattr(module, name, _without_step(getattr(module, name), place))
        return
    library = module.__file__.rpartition("/tracking/")[0] + "/"
    client = module.MlflowClient
    for name, before in _watchers(agent, library).items():
        setattr(client, name, agent.wrap(getattr(client, name), before, "trace", f"mlflow.{name}"))


def _without_step(original: Any, place: int) -> Any:
    """Return a function that notes for the client below it whether a step was passed."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        outer = getattr(_calls, "unstepped", False)
        _calls.unstepped = (args[place] if len(args) > place else kwargs.get("step")) is None
        try:
            return original(*args, **kwargs)
        except BaseException as error:
            error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
            raise
        finally:
            _calls.unstepped = outer

    return disguise(wrapper, original)


def _watchers(agent: Agent, library: str) -> dict[str, Callable[[Any, Any], None]]:
    told = metrics.shared(agent)

    def step_of(step: Any) -> Any:
        return None if getattr(_calls, "unstepped", False) else step

    def log_metric(args: Any, kwargs: Any) -> None:
        run, name, value, _, step = _arguments(args, kwargs, "run_id", "key", "value", "timestamp", "step")
        told.tell("mlflow", name, value, step_of(step), str(run))

    def log_batch(args: Any, kwargs: Any) -> None:
        run, logged, parameters = _arguments(args, kwargs, "run_id", "metrics", "params")
        seen = set()  # a metric of several models comes once for each
        for metric in logged if isinstance(logged, (list, tuple)) else ():
            point = (metric.key, metric.step, metric.timestamp, id(metric.value))
            if point not in seen:
                seen.add(point)
                told.tell("mlflow", metric.key, metric.value, step_of(metric.step), str(run))
        if isinstance(parameters, (list, tuple)) and parameters:
            values = {parameter.key: parameter.value for parameter in parameters}
            hyperparameters.tell(agent, "mlflow", values, call_site(library))

    def log_param(args: Any, kwargs: Any) -> None:
        _, name, value = _arguments(args, kwargs, "run_id", "key", "value")
        hyperparameters.tell(agent, "mlflow", {name: value}, call_site(library))

    return {"log_metric": log_metric, "log_batch": log_batch, "log_param": log_param}


def _arguments(args: Any, kwargs: Any, *names: str) -> list[Any]:
    """Return the first arguments of a method after `self`, however they were passed; `None` where one is missing."""
    return [args[place] if place < len(args) else kwargs.get(name) for place, name in enumerate(names, 1)]
