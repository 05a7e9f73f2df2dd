"""What a file in the format of safetensors holds, read by itself: what `safe_open` takes out of it is Rust's affair.

The format: 8 bytes with the header's length, little-endian; the header, a JSON object of names to dtype, shape and
place; the tensors' bytes. https://huggingface.co/docs/safetensors/index#format
"""

from __future__ import annotations

import mmap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

MOST_BYTES = 1 << 30
"""A larger file is not read a second time."""

_DTYPES = {
    **{"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool"},
    **{"I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8"},
    **{"U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "C64": "complex64"},
    **{"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"},
}
"""The format's names, and torch's."""


def tensors_in(path: str) -> Iterator[tuple[str, list[int], str, Any]]:
    """Yield name, shape, dtype and bytes of each tensor, in the order of the file; each is released before the next.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no such file.
    """
    import json

    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as held:
        start = 8 + int.from_bytes(held[:8], "little")
        header = json.loads(held[8:start])
        header.pop("__metadata__", None)
        with memoryview(held) as content:
            for name, about in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
                begin, end = about["data_offsets"]
                with content[start + begin : start + end] as part:
                    yield name, about["shape"], _DTYPES.get(about["dtype"], str(about["dtype"]).lower()), part
