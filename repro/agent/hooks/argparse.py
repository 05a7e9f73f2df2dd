"""argparse: the namespace that a command line was parsed to, defaults included, by the outermost call.

Libraries parse too, and so does what starts a training: whose call it is, is told by where it was made from
(`is_of_program` in `repro/agent/hyperparameters.py`).
"""

from __future__ import annotations

import sys

from ..hyperparameters import after, caller, is_of_program, tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

MODULES = ("argparse",)

_PARSING = ("parse_args", "parse_known_args", "parse_intermixed_args", "parse_known_intermixed_args")


def install(module: Any, agent: Agent) -> None:
    """Watch what parsers return."""
    library = module.__file__

    def told(result: Any, args: Any, kwargs: Any) -> None:
        parser = args[0]
        given = args[1] if len(args) > 1 else kwargs.get("args")
        site, package = caller(library, parser)
        if is_of_program(package, given is None or given == sys.argv[1:]):
            namespace = result[0] if isinstance(result, tuple) else result
            tell(agent, "argparse", object.__getattribute__(namespace, "__dict__"), site)

    for name in _PARSING:
        original = getattr(module.ArgumentParser, name)
        setattr(module.ArgumentParser, name, after(agent, original, told, "argparse"))
