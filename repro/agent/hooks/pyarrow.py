"""Arrow, which opens every file in C++, also for pandas, datasets and others."""

from __future__ import annotations

from ..readers import watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

MODULES = (
    "pyarrow",
    "pyarrow.parquet",
    "pyarrow.dataset",
    "pyarrow.feather",
    "pyarrow.csv",
    "pyarrow.json",
    "pyarrow.orc",
)

_READERS = (
    "memory_map 0 path",
    "input_stream 0 source",
    "output_stream 0 source write",
    "read_table 0 source",
    "read_schema 0 where",
    "read_metadata 0 where",
    "ParquetFile.__init__ 1 source",
    "ParquetDataset.__init__ 1 path_or_paths",
    "write_table 1 where write",
    "read_feather 0 source",
    "write_feather 1 dest write",
    "read_csv 0 input_file",
    "open_csv 0 input_file",
    "write_csv 1 output_file write",
    "read_json 0 input_file",
    "dataset 0 source",
    "ORCFile.__init__ 1 source",
)


def install(module: Any, agent: Agent) -> None:
    """Watch what opens files."""
    watch(module, agent, "pyarrow", _READERS)
