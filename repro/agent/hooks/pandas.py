"""pandas: the formats that it leaves to libraries which open files by themselves."""

from __future__ import annotations

from ..readers import watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

MODULES = ("pandas",)

_READERS = (
    "read_parquet 0 path",
    "read_feather 0 path",
    "read_orc 0 path",
    "read_hdf 0 path_or_buf",
    "DataFrame.to_parquet 1 path write",
    "DataFrame.to_feather 1 path write",
)


def install(module: Any, agent: Agent) -> None:
    """Watch what opens files."""
    watch(module, agent, "pandas", _READERS)
