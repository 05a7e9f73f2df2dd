"""jsonargparse: what a command line, with the files of configuration it names, was parsed to; `auto_cli`, too.

It is a subclass of argparse's parser that parses by itself. What a `LightningCLI` has parsed is told by that hook.
"""

from __future__ import annotations

import sys

from ..hyperparameters import after, caller, is_of_program, tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

MODULES = ("jsonargparse._core",)

_PARSING = ("parse_args", "parse_object", "parse_path", "parse_string", "parse_env")
_TOLD_ELSEWHERE = ("lightning", "pytorch_lightning")


def install(module: Any, agent: Agent) -> None:
    """Watch what parsers return."""
    library = module.__file__.rpartition("/")[0] + "/"

    def told(result: Any, args: Any, kwargs: Any) -> None:
        site, package = caller(library, args[0])
        given = args[1] if len(args) > 1 else kwargs.get("args")
        if package not in _TOLD_ELSEWHERE and is_of_program(package, given is None or given == sys.argv[1:]):
            tell(agent, "jsonargparse", result, site)

    for name in _PARSING:
        original = getattr(module.ArgumentParser, name, None)
        if original is not None:
            setattr(module.ArgumentParser, name, after(agent, original, told, "jsonargparse"))
