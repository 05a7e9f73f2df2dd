"""Weights & Biases: what is logged to a run, online, offline or disabled, and its configuration.

The step is the run's own: it rises with each `log` that commits. The service that keeps it is never asked.
"""

from __future__ import annotations

from .. import disguise, hyperparameters, metrics
from ..callers import call_site

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

MODULES = ("wandb.sdk.wandb_config", "wandb.sdk.wandb_run", "wandb.sdk.lib.noop_run")

_CHANGERS = ("__setitem__", "__setattr__", "_update", "setdefaults", "update_locked", "merge_locked")


def install(module: Any, agent: Agent) -> None:
    """Watch runs, and configurations."""
    if module.__name__ == "wandb.sdk.wandb_config":
        _watch_configuration(module.Config, agent, module.__file__.rpartition("/sdk/")[0] + "/")
    elif module.__name__ == "wandb.sdk.wandb_run":
        _watch_run(module.Run, agent, _step_of_run)
    else:
        _watch_run(module.NoopRun, agent, _StepOfDisabled(agent))


def _watch_run(run_class: Any, agent: Agent, step_of: Any) -> None:
    told = metrics.shared(agent)

    def before(args: Any, kwargs: Any) -> None:
        run = args[0]
        data, step, commit = [
            args[place] if place < len(args) else kwargs.get(name)
            for place, name in enumerate(("data", "step", "commit"), 1)
        ]
        told.tell_all("wandb", data, step_of(run, step, commit), str(run.id))

    run_class.log = agent.wrap(run_class.log, before, "trace", "wandb.log")


def _step_of_run(run: Any, step: Any, commit: Any) -> Any:
    """Return the step that a run will give to what it logs; `None`, which counts on, where it does not say."""
    if step is not None:
        return step
    current = getattr(run, "_local_step", None)
    return current if current is not None else getattr(run, "_step", None)


class _StepOfDisabled:
    """Counts for disabled runs, which do not count, as others do.

    Args:
        agent: Says when a fork makes it count anew.
    """

    def __init__(self, agent: Agent) -> None:
        self._steps: dict[str, int] = {}
        agent.on_fork(self._steps.clear)

    def __call__(self, run: Any, step: Any, commit: Any) -> Any:
        current = self._steps.get(run.id, 0)
        if isinstance(step, int):
            current = max(current, step)
        self._steps[run.id] = current + (1 if commit or (step is None and commit is None) else 0)
        return current if step is None else step


def _watch_configuration(config_class: Any, agent: Agent, library: str) -> None:
    def tell(config: Any, changed: Any) -> None:
        items = config._items
        names = [changed] if isinstance(changed, str) and changed in items else list(items)
        values = {name: items[name] for name in names if not name.startswith("_")}
        hyperparameters.tell(agent, "wandb", values, call_site(library))

    def watched(original: Any) -> Any:
        def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return original(self, *args, **kwargs)
            except BaseException as error:
                error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
                raise
            finally:
                agent.guard("trace", "wandb.config", tell, self, args[0] if args else None)

        return disguise(wrapper, original)

    for name in _CHANGERS:
        if name in vars(config_class):
            setattr(config_class, name, watched(vars(config_class)[name]))
