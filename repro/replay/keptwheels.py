"""Which wheels the recorder kept, as the lock names them: these are installed from the store, the rest from the index.

The recorder writes a line `# wheel: sha256:HEX NAME.whl` for each. It is sealed with the lock.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from repro.evidence.objects import Objects

_LINE: Final = re.compile(
    r"^# wheel: (sha256:[0-9a-f]{64}) ([A-Za-z0-9][\w.+!]*-[\w.+!]+(?:-[\w.+!]+){3,4}\.whl)$", re.MULTILINE | re.ASCII
)
_PIN: Final = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A lock, in what is installed from kept wheels and what is not; either may be empty."""

    kept: str
    """Pins of the kept wheels, each by its one hash."""
    rest: str
    """The other pins, as they were."""


def split(lock: str, objects: Objects, folder: Path) -> Split:
    """Link the kept wheels of a lock into a folder, by their names, and split the lock accordingly.

    A wheel that is not in the store any more is left to the index. pip checks the hash of each that is there.

    Raises:
        OSError: The folder cannot be written to.
    """
    kept: dict[str, str] = {}
    for digest, name in _LINE.findall(lock):
        if not (wheel := objects.path(digest)).exists():
            continue
        folder.mkdir(exist_ok=True)
        link = folder / name
        link.unlink(missing_ok=True)
        link.symlink_to(wheel.absolute())
        project, version = name.split("-")[:2]
        project = _normal(project)
        kept[project] = f"{project}=={version} --hash={digest}\n"
    blocks = _blocks(lock)
    installed = [line for name, line in kept.items() if name in {project for project, _ in blocks}]
    return Split(kept="".join(installed), rest="".join(block for name, block in blocks if name not in kept))


def _blocks(lock: str) -> list[tuple[str, str]]:
    """Return each pin with its normalised name (PEP 503)."""
    starts = list(_PIN.finditer(lock))
    ends = [found.start() for found in starts[1:]] + [len(lock)]
    return [(_normal(found[1]), lock[found.start() : end]) for found, end in zip(starts, ends, strict=True)]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
