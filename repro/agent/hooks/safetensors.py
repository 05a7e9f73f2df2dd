"""safetensors, which maps files in Rust. `safe_open` is a class in Rust: its files are left to the kernel layer."""

from __future__ import annotations

from ..readers import watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

MODULES = ("safetensors.torch", "safetensors.numpy")

_READERS = ("load_file 0 filename", "save_file 1 filename write")


def install(module: Any, agent: Agent) -> None:
    """Watch what opens files."""
    watch(module, agent, "safetensors", _READERS)
