"""DuckDB: databases, and files that functions are given; those in the text of a query are left to the kernel layer."""

from __future__ import annotations

from ..readers import watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

MODULES = ("duckdb",)

_READERS = (
    "connect 0 database",
    *(f"{name} 0 path_or_buffer" for name in ("read_csv", "from_csv_auto", "read_json")),
    *(f"{name} 0 file_glob" for name in ("read_parquet", "from_parquet")),
)


def install(module: Any, agent: Agent) -> None:
    """Watch what opens files."""
    watch(module, agent, "duckdb", _READERS)
