"""Hydra: the configuration that a task is run with, of each job of a sweep, and what `hydra.compose` returns.

Interpolations are told as they are written, `${oc.env:TOKEN}`: resolving one may read a secret, draw a number or ask
the time. Hydra's own node, `hydra`, is left out: its overrides are on the command line.
"""

from __future__ import annotations

from ..hyperparameters import after, caller, tell, unresolved

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

MODULES = ("hydra.core.utils", "hydra.compose", "hydra.main")


def install(module: Any, agent: Agent) -> None:
    """Watch `run_job` and `compose`."""
    library = module.__file__.rpartition("/hydra/")[0] + "/hydra/"
    if module.__name__ == "hydra.core.utils":

        def before(args: Any, kwargs: Any) -> None:
            config = unresolved(args[1] if len(args) > 1 else kwargs["config"])
            tell(agent, "hydra", _without_hydra(config), caller(library)[0])

        module.run_job = agent.wrap(module.run_job, before, "trace", "hydra.run_job")
    elif module.__name__ == "hydra.compose":

        def told(result: Any, args: Any, kwargs: Any) -> None:
            tell(agent, "hydra", _without_hydra(unresolved(result)), caller(library)[0])

        module.compose = after(agent, module.compose, told, "hydra.compose")
    else:
        _watch_rerun(module, agent, library)


def _watch_rerun(module: Any, agent: Agent, library: str) -> None:
    """Watch what `--experimental-rerun` reads: that task is run by no job."""

    def told(result: Any, args: Any, kwargs: Any) -> None:
        tell(agent, "hydra", unresolved(result), caller(library)[0])

    original = getattr(module, "_get_rerun_conf", None)
    if original is not None:
        module._get_rerun_conf = after(agent, original, told, "hydra rerun")


def _without_hydra(config: Any) -> dict[Any, Any]:
    return {name: value for name, value in config.items() if name != "hydra"}
