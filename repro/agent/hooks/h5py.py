"""h5py: HDF5 files, which its C library opens. The mode says whether they are read, written or both."""

from __future__ import annotations

from ..readers import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

MODULES = ("h5py",)


def install(module: Any, agent: Agent) -> None:
    """Watch `h5py.File`."""

    def before(args: Any, kwargs: Any) -> None:
        name = args[1] if len(args) > 1 else kwargs.get("name")
        mode = args[2] if len(args) > 2 else kwargs.get("mode", "r")
        if mode in ("r", "r+", "a"):
            agent.opened(name, write=False, library="h5py")
        if mode != "r":
            agent.opened(name, write=True, library="h5py")

    original = module.File.__init__
    replace(module.File, "__init__", agent.wrap(original, before, "data", "h5py.File"))
