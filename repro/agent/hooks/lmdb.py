"""LMDB, whose C library opens `data.mdb` in the folder that it is given."""

from __future__ import annotations

import os

from ..readers import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

MODULES = ("lmdb",)


def install(module: Any, agent: Agent) -> None:
    """Watch `lmdb.open`."""

    def before(args: Any, kwargs: Any) -> None:
        path = os.fsdecode(args[0] if args else kwargs["path"])
        file = os.path.join(path, "data.mdb") if kwargs.get("subdir", True) else path
        agent.opened(file, write=False, library="lmdb")
        if not kwargs.get("readonly", False):
            agent.opened(file, write=True, library="lmdb")

    original = module.open
    replace(module, "open", agent.wrap(original, before, "data", "lmdb.open"))
