"""Hugging Face Transformers: the arguments that a `Trainer` was made with, whichever way they came to be.

Tokens are left out, as `TrainingArguments.to_dict` does. What a command line gave is told by the hook of argparse, too.

Metrics are what a `Trainer` logs, at its global step, but for how long things took: that is another in each run.
"""

from __future__ import annotations

from ..hyperparameters import HIDDEN, after, caller, members, tell
from ..metrics import shared

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

MODULES = ("transformers.trainer", "transformers.trainer_callback")

_TIMES = ("_runtime", "_per_second", "_time")


def install(module: Any, agent: Agent) -> None:
    """Watch how trainers are made, and what all of them call to log."""
    if module.__name__ == "transformers.trainer":
        _watch_arguments(module, agent)
    else:
        _watch_metrics(module, agent)


def _watch_arguments(module: Any, agent: Agent) -> None:
    library = module.__file__.rpartition("/")[0] + "/"

    def told(result: Any, args: Any, kwargs: Any) -> None:
        trainer = args[0]
        arguments = trainer.args
        tokens = {name: HIDDEN for name in vars(arguments) if name.endswith("_token") and vars(arguments)[name]}
        shown = [pair for pair in members(arguments) or () if pair[0] not in tokens]
        tell(agent, "transformers", {**dict(shown), **tokens}, caller(library, trainer)[0])

    original = module.Trainer.__init__
    module.Trainer.__init__ = after(agent, original, told, "transformers.Trainer")


def _watch_metrics(module: Any, agent: Agent) -> None:
    def before(args: Any, kwargs: Any) -> None:
        state = args[2] if len(args) > 2 else kwargs["state"]
        logs = args[4] if len(args) > 4 else kwargs["logs"]
        kept = {name: value for name, value in logs.items() if not str(name).endswith(_TIMES)}
        shared(agent).tell_all("transformers", kept, state.global_step)

    handler = module.CallbackHandler
    handler.on_log = agent.wrap(handler.on_log, before, "trace", "transformers.Trainer.log")
