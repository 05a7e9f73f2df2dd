"""`repro` itself: what a script tells through `repro.log_metric` and `repro.log_param`."""

from __future__ import annotations

from .. import disguise, hyperparameters, metrics
from ..callers import call_site

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

    from repro.agent import Agent

MODULES = ("repro",)


def install(module: Any, agent: Agent) -> None:
    """Put functions that record in the place of those that do nothing; an older `repro` has none."""
    told = metrics.shared(agent)
    library = module.__file__

    def log_metric(name: str, value: Any, step: Optional[int] = None) -> None:
        told.tell("repro", name, value, step)

    def log_param(name: str, value: Any) -> None:
        agent.guard("trace", "repro.log_param", tell_parameter, name, value)

    def tell_parameter(name: str, value: Any) -> None:
        hyperparameters.tell(agent, "repro.log_param", {name: value}, call_site(library))

    for function in (log_metric, log_param):
        original = getattr(module, function.__name__, None)
        if original is not None:
            setattr(module, function.__name__, disguise(function, original))
