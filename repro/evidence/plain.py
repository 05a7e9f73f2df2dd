"""Opening a file that somebody else may have put there."""

from __future__ import annotations

import os
import stat
from io import BufferedReader
from pathlib import Path

from repro.errors import AlteredError


def open_plain(path: Path, name: str) -> BufferedReader:
    """Open a regular file for reading, and nothing else: no symbolic link, no FIFO that would make us wait, no device.

    Args:
        path: The file.
        name: How to call it in the error.

    Raises:
        FileNotFoundError: There is nothing of that name.
        AlteredError: It is not a plain file, or cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise AlteredError(f"{name} cannot be opened as a plain file: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise AlteredError(f"{name} is not a plain file")
    return os.fdopen(descriptor, "rb")
