"""On what file system and device a folder lies. Sources: proc_pid_mountinfo(5), and the kernel's "block" sysfs."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from repro.evidence.canonical import storable
from repro.record.redact import url

_ESCAPE: Final = re.compile(r"\\([0-7]{3})")


class Mounts:
    """The file systems as they are mounted now.

    Args:
        root: Where `/proc` and `/sys` are found.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._fields: dict[str, list[str]] = {}
        for line in _text(root / "proc/self/mountinfo").splitlines():
            fields = line.split(" ")
            if len(fields) >= 10 and " - " in line:  # of two mounts on one point, the later one hides the earlier
                self._fields[_ESCAPE.sub(lambda found: chr(int(found[1], 8)), fields[4])] = fields
        self._sentences: dict[str, str] = {}

    def describe(self, folder: Path) -> str | None:
        """Return the file system below a folder in one line, such as `ext4 rw on /dev/sda1 (Samsung SSD 980, …)`.

        No serial numbers; credentials of network file systems are left out.

        Args:
            folder: Absolute.
        """
        point = os.path.realpath(folder)
        while point not in self._fields:
            if point == "/":
                return None
            point = os.path.dirname(point)  # noqa: PTH120 - text, of many folders
        if point not in self._sentences:
            self._sentences[point] = _sentence(self._fields[point], self._root)
        return self._sentences[point]


def _sentence(fields: list[str], root: Path) -> str:
    options = [option for option in fields[5].split(",") if option in ("ro", "rw", "sync", "dax")]
    kind, source = fields[fields.index("-") + 1 : fields.index("-") + 3]
    device = _device(root / "sys/dev/block" / fields[2])
    return storable(f"{kind} {','.join(options)} on {url(source)}{f' ({device})' if device else ''}")


def _device(entry: Path) -> str | None:
    try:
        block = entry.resolve(strict=True)
    except OSError:
        return None  # a file system without a device: overlay, tmpfs, NFS, btrfs
    disk = block.parent if (block / "partition").exists() else block
    model = _text(disk / "device/model")
    kind = {"0": "solid state or virtual", "1": "rotational"}.get(_text(disk / "queue/rotational"))
    return ", ".join(part for part in (model, kind) if part) or None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
