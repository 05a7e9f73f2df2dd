"""What PyTorch Lightning is configured with, and what it logs, under either of its names.

Hyperparameters: what modules and data modules save by `save_hyperparameters` (or set), source `lightning`, and the
parsed configuration of a `LightningCLI`, source `lightning.cli`. Metrics: what is logged at each log step and at the
end of epochs, whether or not there is a logger; steps are those that loggers are given.
"""

from __future__ import annotations

from .hyperparameters import after, caller, tell
from .metrics import shared

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent


def watch_hyperparameters(module: Any, agent: Agent) -> None:
    """Watch what is saved as `hparams`; by the inner method, since the outer one looks at its caller's frame.

    Args:
        module: `core.mixins.hparams_mixin`.
        agent: Where to tell it.
    """
    mixin = module.HyperparametersMixin
    library = module.__file__.rpartition("/core/")[0] + "/"

    def told(result: Any, args: Any, kwargs: Any) -> None:
        tell(agent, "lightning", args[0].hparams, caller(library)[0])

    mixin._set_hparams = after(agent, mixin._set_hparams, told, "lightning hparams")


def watch_command_line(module: Any, agent: Agent) -> None:
    """Watch what a `LightningCLI` has parsed, files of configuration merged.

    Args:
        module: `cli`.
        agent: Where to tell it.
    """
    library = module.__file__.rpartition("/")[0] + "/"

    def told(result: Any, args: Any, kwargs: Any) -> None:
        tell(agent, "lightning.cli", args[0].config, caller(library, args[0])[0])

    cli = module.LightningCLI
    cli.parse_arguments = after(agent, cli.parse_arguments, told, "LightningCLI")


def watch_metrics(module: Any, agent: Agent) -> None:
    """Watch what trainers hand to their loggers.

    Args:
        module: `trainer.connectors.logger_connector.logger_connector`.
        agent: Where to tell it.
    """

    def before(args: Any, kwargs: Any) -> None:
        connector, metrics = args[0], dict(args[1] if len(args) > 1 else kwargs["metrics"])
        step = args[2] if len(args) > 2 else kwargs.get("step")
        if step is None:
            step = metrics.pop("step", None)  # as Lightning does: such a metric is the step
        if step is None:
            step = connector.trainer.fit_loop.epoch_loop._batches_that_stepped
        shared(agent).tell_all("lightning", metrics, step)

    connector = module._LoggerConnector
    connector.log_metrics = agent.wrap(connector.log_metrics, before, "trace", "lightning metrics")


def watch_fabric(module: Any, agent: Agent) -> None:
    """Watch `Fabric.log_dict`, which `Fabric.log` calls.

    Args:
        module: `fabric`.
        agent: Where to tell it.
    """

    def before(args: Any, kwargs: Any) -> None:
        metrics = args[1] if len(args) > 1 else kwargs["metrics"]
        step = args[2] if len(args) > 2 else kwargs.get("step")
        shared(agent).tell_all("lightning", dict(metrics), step)

    fabric = module.Fabric
    fabric.log_dict = agent.wrap(fabric.log_dict, before, "trace", "Fabric.log")


_WATCHES = (
    (".hparams_mixin", watch_hyperparameters),
    (".cli", watch_command_line),
    (".logger_connector", watch_metrics),
    (".fabric", watch_fabric),
)


def watch(module: Any, agent: Agent) -> None:
    """Watch the part of Lightning that was just imported."""
    for ending, action in _WATCHES:
        if module.__name__.endswith(ending):
            action(module, agent)
