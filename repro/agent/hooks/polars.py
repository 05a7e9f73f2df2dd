"""Polars, which opens every file in Rust."""

from __future__ import annotations

from ..readers import watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

MODULES = ("polars",)

_READERS = (
    *(
        f"{verb}_{form} 0 source"
        for form in ("parquet", "csv", "ipc", "ndjson", "json", "avro", "delta", "excel", "csv_batched")
        for verb in ("read", "scan")
    ),
    *(
        f"{frame}.{verb}_{form} 1 {word} write"
        for frame, verb, word in (("DataFrame", "write", "file"), ("LazyFrame", "sink", "path"))
        for form in ("parquet", "csv", "ipc", "ndjson", "json", "avro")
    ),
)


def install(module: Any, agent: Agent) -> None:
    """Watch what opens files."""
    watch(module, agent, "polars", _READERS)
