"""TensorBoard's `SummaryWriter`, PyTorch's and tensorboardX's: what is logged through it, as it was given.

A value keeps its own type here; the event file has it as float32. Each folder that is written to is a writer of its
own: `add_hparams` makes one.
"""

from __future__ import annotations

from . import hyperparameters, metrics
from .callers import call_site

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent


def watch(module: Any, agent: Agent, source: str) -> None:
    """Watch the class `SummaryWriter` of a module.

    Args:
        module: Just imported.
        agent: Where to tell it.
        source: Who is said to be given the values: tensorboard, tensorboardX.
    """
    told = metrics.shared(agent)
    library = module.__file__.rpartition("/")[0] + "/"

    def before_scalar(args: Any, kwargs: Any) -> None:
        tag, value, step = _arguments(args, kwargs, "tag", "scalar_value", "global_step")
        told.tell(source, tag, value, step, _folder(args[0]))

    def before_scalars(args: Any, kwargs: Any) -> None:
        tag, values, step = _arguments(args, kwargs, "main_tag", "tag_scalar_dict", "global_step")
        told.tell_all(source, values, step, _folder(args[0]), f"{tag}/")

    def before_hyperparameters(args: Any, kwargs: Any) -> None:
        (values,) = _arguments(args, kwargs, "hparam_dict")
        hyperparameters.tell(agent, source, values, call_site(library))

    for name, before in (
        ("add_scalar", before_scalar),
        ("add_scalars", before_scalars),
        ("add_hparams", before_hyperparameters),
    ):
        original = getattr(module.SummaryWriter, name)
        setattr(module.SummaryWriter, name, agent.wrap(original, before, "trace", f"{source}.{name}"))


def _arguments(args: Any, kwargs: Any, *names: str) -> list[Any]:
    """Return the first arguments of a method after `self`, however they were passed; `None` where one is missing."""
    return [args[place] if place < len(args) else kwargs.get(name) for place, name in enumerate(names, 1)]


def _folder(writer: Any) -> str:
    found = getattr(writer, "log_dir", None) or getattr(writer, "logdir", None)
    return found if isinstance(found, str) else repr(found)
