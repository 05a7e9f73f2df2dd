"""Files to read: the same bytes for the same arguments, and none like another."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

BLOCK_BYTES = 16 * 1024 * 1024
FILES_PER_FOLDER = 100


def big(path: Path, size_bytes: int) -> Path:
    """Write one large file of whole blocks that differ."""
    block = random.Random(7).randbytes(BLOCK_BYTES - 8)
    with path.open("wb") as file:
        for number in range(max(1, size_bytes // BLOCK_BYTES)):
            file.write(number.to_bytes(8, "little") + block)
    return path


def small(folder: Path, count: int, size_bytes: int) -> Path:
    """Write many small files, a hundred to a folder."""
    generator = random.Random(7)
    block = generator.randbytes(BLOCK_BYTES)
    for number in range(count):
        path = folder / f"{number // FILES_PER_FOLDER:04}" / f"{number:06}.bin"
        if number % FILES_PER_FOLDER == 0:
            path.parent.mkdir(parents=True)
        start = generator.randrange(BLOCK_BYTES - size_bytes)
        path.write_bytes(number.to_bytes(8, "little") + block[start : start + size_bytes - 8])
    return folder


def files(target: Path) -> Iterator[Path]:
    """Return a file, or the plain files below a folder."""
    if target.is_file():
        yield target
    for parent, _, names in os.walk(target):
        for name in names:
            path = Path(parent, name)
            if path.is_file() and not path.is_symlink():
                yield path


def warm(target: Path) -> None:
    """Read what is to be read once, so that it is in memory."""
    for path in files(target):
        with path.open("rb", buffering=0) as file:
            while file.read(BLOCK_BYTES):
                pass


def cool(target: Path, *, everything: bool) -> None:
    """Have the kernel forget the pages of these files; or, as root, all that it holds for any file of the machine."""
    os.sync()
    if everything:
        Path("/proc/sys/vm/drop_caches").write_text("3\n", encoding="ascii")
        return
    for path in files(target):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
