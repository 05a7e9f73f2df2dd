"""The settings of torch that bear on the bits, and those of optimizers, as they stand."""

from __future__ import annotations

from .groups import tell_groups

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

    from repro.agent import Agent

SETTINGS = (
    "get_num_threads torch.num_threads",
    "get_num_interop_threads torch.num_interop_threads",
    "backends.cpu.get_cpu_capability torch.cpu_capability",
    "are_deterministic_algorithms_enabled torch.deterministic_algorithms",
    "is_deterministic_algorithms_warn_only_enabled torch.deterministic_algorithms_warn_only",
    "utils.deterministic.fill_uninitialized_memory torch.fill_uninitialized_memory",
    "get_default_dtype torch.default_dtype",
    "get_float32_matmul_precision torch.float32_matmul_precision",
    "backends.cudnn.enabled",
    "backends.cudnn.benchmark",
    "backends.cudnn.deterministic",
    "backends.cudnn.allow_tf32",
    "backends.cuda.matmul.allow_tf32",
    "backends.cuda.matmul.allow_fp16_reduced_precision_reduction",
    "backends.cuda.matmul.allow_bf16_reduced_precision_reduction",
    "backends.mkldnn.enabled",
    "version.__version__ torch.version",
    "version.cuda",
    "cuda.is_initialized",
)
"""Path of the attribute or function below torch, and the name of the setting where it is not `torch.` and that path."""


def tell_settings(agent: Agent, torch: Any, moment: str) -> None:
    """Tell the settings of the library as they stand at a moment."""
    for entry in SETTINGS:
        path, _, name = entry.partition(" ")
        try:
            value = torch
            for attribute in path.split("."):
                value = getattr(value, attribute)
            value = value() if callable(value) else value
        except AttributeError:
            continue  # this torch does not have it
        except RuntimeError as error:
            value = f"unreadable: {str(error).partition(',')[0][:120]}"  # the older and the newer TF32 switch at odds
        agent.emit("setting", moment=moment, name=name or f"torch.{path}", value=str(value))
    agent.guard("trace", "process groups", tell_groups, agent, torch, moment)


def tell_optimizer(agent: Agent, optimizer: Any, index: int) -> None:
    """Tell an optimizer's class, and each group's scalar settings, as they stand at its first step."""

    def tell(name: str, value: Any) -> None:
        agent.emit("setting", moment="first-step", name=f"optimizer.{index}.{name}", value=value)

    kind = type(optimizer)
    tell("class", f"{kind.__module__}.{kind.__qualname__}")
    for number, group in enumerate(optimizer.param_groups):
        for name, value in group.items():
            if name != "params":
                text = _setting_text(value)
                if text is not None:
                    tell(f"group.{number}.{name}", text)


def _setting_text(value: Any) -> Optional[str]:
    """Return a scalar hyperparameter, or a tuple of them, as text; `None` for anything else."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return str(value)
    if isinstance(value, (tuple, list)) and all(isinstance(item, (bool, int, float)) for item in value):
        return str(tuple(value))
    return None
