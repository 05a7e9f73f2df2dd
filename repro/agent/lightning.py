"""What PyTorch Lightning is configured with, and what it logs, under either of its names.

Hyperparameters: what modules and data modules save by `save_hyperparameters` (or set), source `lightning`, and the
parsed configuration of a `LightningCLI`, source `lightning.cli`.
"""

from __future__ import annotations

from .hyperparameters import after, caller, tell

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
