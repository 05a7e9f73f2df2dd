"""safetensors: what it writes and reads. `safe_open` is a class in Rust: what is in its file is read by ourselves."""

from __future__ import annotations

from .. import tensor_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

MODULES = ("safetensors", "safetensors.torch", "safetensors.numpy")


def install(module: Any, agent: Agent) -> None:
    """Watch what writes and reads files of tensors."""
    tensor_files.watch_safetensors(module, agent)
