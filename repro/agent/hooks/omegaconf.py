"""OmegaConf: what the user's own code reads, merges, or takes from the command line; interpolations as written."""

from __future__ import annotations

from ..hyperparameters import after, caller, tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

MODULES = ("omegaconf.omegaconf",)

_READING = ("load", "merge", "unsafe_merge", "from_cli", "from_dotlist")


def install(module: Any, agent: Agent) -> None:
    """Watch the static methods of `OmegaConf` that configurations come from."""
    library = module.__file__.rpartition("/")[0] + "/"

    def told(result: Any, args: Any, kwargs: Any) -> None:
        site, package = caller(library)
        if not package:
            tell(agent, "omegaconf", result, site)

    for name in _READING:
        original = getattr(module.OmegaConf, name, None)
        if original is not None:
            setattr(module.OmegaConf, name, staticmethod(after(agent, original, told, f"OmegaConf.{name}")))
