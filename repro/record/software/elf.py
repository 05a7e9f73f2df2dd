"""Read the GNU build id of a program or library: it names one build, whatever the file is called.

The format is that of elf(5) and of the System V gABI, "Program Header" and "Note Section". Files may be hostile or cut
off: every read is bounded, and what cannot be read has no build id.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_MAGIC: Final = b"\x7fELF"
_PT_NOTE: Final = 4
_NT_GNU_BUILD_ID: Final = 3
_MAX_HEADERS: Final = 256
_MAX_NOTE_BYTES: Final = 64 * 1024
_MAX_ID_BYTES: Final = 64


def build_id(path: Path) -> str | None:
    """Return the build id in hexadecimal, or `None` where there is none.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no regular ELF file.
    """
    # Without O_NONBLOCK a FIFO of that name would hold us up for ever.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode) or os.pread(fd, 4, 0) != _MAGIC:
            raise ValueError(f"{path} is no ELF file")
        return next((found for order, notes in _note_segments(fd) if (found := _in_notes(order, notes))), None)
    except (struct.error, OverflowError):
        return None
    finally:
        os.close(fd)


def _note_segments(fd: int) -> Iterator[tuple[str, bytes]]:
    """Return the byte order and the bytes of each segment of notes."""
    identity = os.pread(fd, 16, 0)
    wide, order = identity[4:5] == b"\2", ">" if identity[5:6] == b"\2" else "<"
    header = struct.Struct(order + ("16sHHIQQQIHHHHHH" if wide else "16sHHIIIIIHHHHHH"))
    fields = header.unpack(os.pread(fd, header.size, 0))
    offset, entry_bytes, count = fields[5], fields[9], fields[10]
    entry = struct.Struct(order + ("IIQQQQQQ" if wide else "IIIIIIII"))
    for index in range(min(count, _MAX_HEADERS)):
        values = entry.unpack(os.pread(fd, entry.size, offset + index * max(entry_bytes, entry.size)))
        at, size_bytes = (values[2], values[5]) if wide else (values[1], values[4])
        if values[0] == _PT_NOTE:
            yield order, os.pread(fd, min(size_bytes, _MAX_NOTE_BYTES), at)


def _in_notes(order: str, notes: bytes) -> str | None:
    at = 0
    while at + 12 <= len(notes):
        name_bytes, content_bytes, kind = struct.unpack_from(order + "III", notes, at)
        content_at = at + 12 + (name_bytes + 3) // 4 * 4
        end = content_at + content_bytes
        if kind == _NT_GNU_BUILD_ID and notes[at + 12 : at + 12 + name_bytes] == b"GNU\0":
            return notes[content_at:end].hex() if content_bytes <= _MAX_ID_BYTES and end <= len(notes) else None
        at = content_at + (content_bytes + 3) // 4 * 4
    return None
