"""The interpreter's own door to the system: the order of listings, and the kernel's entropy.

No hook, since `os` is always there before us.
"""

from __future__ import annotations

import os
import sys

from .kernel_entropy import KernelEntropy
from .listing import Listings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from repro.agent import Agent


def watch(agent: Agent) -> None:
    """Watch listings and draws, also for modules that a `.pth` file imported before us and that keep the originals."""
    listdir, scandir, urandom = os.listdir, os.scandir, os.urandom
    Listings(agent).watch(os)
    KernelEntropy(agent).watch(os)
    generators = sys.modules.get("random")
    if getattr(generators, "_urandom", None) is urandom:
        generators._urandom = os.urandom  # type: ignore[union-attr]
    accessor = getattr(sys.modules.get("pathlib"), "_NormalAccessor", None)  # until Python 3.10
    if getattr(accessor, "listdir", None) is listdir:
        accessor.listdir = os.listdir  # type: ignore[union-attr]
    if getattr(accessor, "scandir", None) is scandir:
        accessor.scandir = os.scandir  # type: ignore[union-attr]
