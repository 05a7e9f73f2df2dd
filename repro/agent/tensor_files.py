"""The functions that write and read files of tensors, and what takes their places: torch's and those of safetensors."""

from __future__ import annotations

import sys

from . import disguise
from .checkpoints import Checkpoints
from .readers import watch as watch_readers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

    from .trace.steps import Tracer

MODULES = (
    *("torch.nn.parallel.distributed", "torch.distributed.checkpoint.state_dict_saver"),
    "torch.distributed.checkpoint.state_dict_loader",
)
"""Modules of torch that `watch` is for."""
_known: list[Checkpoints] = []


def checkpoints_of(agent: Agent) -> Checkpoints:
    """Return the checkpoints of this process: each hook gets the same."""
    if not _known:
        _known.append(Checkpoints(agent))
    return _known[0]


def watch_torch(agent: Agent, torch: Any, tracer: Tracer) -> None:
    """Take the places of `torch.save` and `torch.load`, and tell of the files of TorchScript that are opened."""
    checkpoints = checkpoints_of(agent)
    checkpoints.attach(torch, tracer)
    homes = (torch, torch.serialization)
    for name, action, value, file in (
        ("save", "written", (0, "obj"), (1, "f")),
        ("load", "read", None, (0, "f")),
    ):
        original = getattr(torch, name)
        replace(original, checkpoints.follow(original, action, "torch", value, file, f"torch.{name}"), *homes)

    for line in ("save 1 f write", "load 0 f"):
        wrapped = getattr(torch.jit, line.partition(" ")[0])
        watch_readers(torch.jit, agent, "torch", (line,))
        replace(wrapped, getattr(torch.jit, wrapped.__name__), torch.jit._serialization)


def watch(module: Any, agent: Agent) -> None:
    """Take our places in another of torch's modules, one of `MODULES`."""
    checkpoints = checkpoints_of(agent)
    if module.__name__ == "torch.nn.parallel.distributed":
        checkpoints.parallel.watch(module)
    else:
        _watch_distributed(checkpoints, module)


def _watch_distributed(checkpoints: Checkpoints, module: Any) -> None:
    for name, action in (("save", "written"), ("async_save", "written"), ("load", "read")):
        original = vars(module).get(name)
        if original is not None and original.__module__ == module.__name__:
            subject = f"torch.distributed.checkpoint.{name}"
            given = ((0, "state_dict"), (1, "checkpoint_id"))
            setattr(module, name, checkpoints.follow(original, action, "torch.distributed.checkpoint", *given, subject))


def watch_safetensors(module: Any, agent: Agent) -> None:
    """Take the places of the functions of `safetensors.torch`, `safetensors.numpy` or `safetensors`."""
    checkpoints = checkpoints_of(agent)
    if module.__name__ == "safetensors":
        module.safe_open = _opening(checkpoints, module.safe_open)
        return
    for name, action, value, file in (
        (
            "save_file",
            "written",
            (0, "tensors" if module.__name__.endswith("torch") else "tensor_dict"),
            (1, "filename"),
        ),
        ("load_file", "read", None, (0, "filename")),
        ("save", "written", (0, "tensors" if module.__name__.endswith("torch") else "tensor_dict"), None),
        ("load", "read", None, None),
    ):
        original = vars(module).get(name)
        if original is not None:
            subject = f"{module.__name__}.{name}"
            setattr(module, name, checkpoints.follow(original, action, "safetensors", value, file, subject))


def _opening(checkpoints: Checkpoints, original: Any) -> Any:
    def safe_open(filename: Any, *args: Any, **kwargs: Any) -> Any:
        caller = sys._getframe(1).f_globals.get("__name__") or ""
        checkpoints.guard("data", "safetensors.safe_open", checkpoints.opened_whole, filename, caller)
        return original(filename, *args, **kwargs)

    return disguise(safe_open, original)


def replace(original: Any, wrapper: Any, *homes: Any) -> None:
    """Put a wrapper in the place of a function, under each name that modules have for it."""
    for home in homes:
        for name, value in list(vars(home).items()):
            if value is original:
                setattr(home, name, wrapper)
