"""Hugging Face Transformers: the arguments that a `Trainer` was made with, whichever way they came to be.

Tokens are left out, as `TrainingArguments.to_dict` does. What a command line gave is told by the hook of argparse, too.
"""

from __future__ import annotations

from ..hyperparameters import HIDDEN, after, caller, members, tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

MODULES = ("transformers.trainer",)


def install(module: Any, agent: Agent) -> None:
    """Watch `Trainer.__init__`."""
    library = module.__file__.rpartition("/")[0] + "/"

    def told(result: Any, args: Any, kwargs: Any) -> None:
        trainer = args[0]
        arguments = trainer.args
        tokens = {name: HIDDEN for name in vars(arguments) if name.endswith("_token") and vars(arguments)[name]}
        shown = [pair for pair in members(arguments) or () if pair[0] not in tokens]
        tell(agent, "transformers", {**dict(shown), **tokens}, caller(library, trainer)[0])

    original = module.Trainer.__init__
    module.Trainer.__init__ = after(agent, original, told, "transformers.Trainer")
