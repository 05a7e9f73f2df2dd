"""Run a hook just after the user's code imports the library that it is for. Nothing is imported on anybody's behalf.

A hook's file name is the top-level module it is for, so a hook is loaded only when the user imports that library. The
finder stands first on `sys.meta_path`, lets the others find the module, and lends the loader they found an
`exec_module` that runs the hook afterwards. The loader keeps its type and identity, and is itself again before the
module runs.
"""

from __future__ import annotations

import os
import sys
from _thread import get_ident

from . import disguise
from .interrupts import pass_on

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType
    from typing import Any, Optional

    from repro.agent import Agent


class Finder:
    """A finder on `sys.meta_path` that finds nothing itself.

    Args:
        agent: Handed to each hook's `install`.
        hooks: The package of hooks.
    """

    def __init__(self, agent: Agent, hooks: ModuleType) -> None:
        self._agent = agent
        self._hooks = hooks
        self._loaded: dict[str, tuple[str, ...]] = {}
        self._finding: set[tuple[int, str]] = set()
        self._libraries = frozenset(
            name[:-3]
            for folder in hooks.__path__
            for name in os.listdir(folder)
            if name.endswith(".py") and name[0] != "_"
        )

    def start(self) -> None:
        """Watch from now on, and hook what was imported before us."""
        sys.meta_path.insert(0, self)
        for name in self._libraries.intersection(sys.modules):
            for module in (name, *self._watched(name)):
                if module in sys.modules:
                    self._install(sys.modules[module])

    def find_spec(self, name: str, path: Optional[Sequence[str]] = None, target: Optional[ModuleType] = None) -> Any:
        """Return the spec that the other finders find, with its loader prepared; `None` for a module nobody watches."""
        library = name.partition(".")[0]
        if library not in self._libraries or (name != library and name not in self._watched(library)):
            return None
        finding = (get_ident(), name)
        if finding in self._finding:
            return None
        self._finding.add(finding)
        try:
            for finder in sys.meta_path:
                spec = None if finder is self else finder.find_spec(name, path, target)
                if spec is not None:
                    self._prepare(spec)
                    return spec
        finally:
            self._finding.discard(finding)
        return None

    def _prepare(self, spec: Any) -> None:
        loader = spec.loader
        execute = getattr(loader, "exec_module", None)
        if execute is None:
            self._agent.gap("agent", spec.name, "its loader cannot be followed: the library is not observed")
            return

        def exec_module(module: ModuleType) -> None:
            loader.__dict__.pop("exec_module", None)
            try:
                execute(module)
            except BaseException as error:
                error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
                raise
            self._install(module)

        try:
            loader.exec_module = disguise(exec_module, execute, "<frozen importlib._bootstrap>")
        except (AttributeError, TypeError) as error:
            self._agent.gap("agent", spec.name, f"its loader cannot be followed: {error}")

    def _watched(self, library: str) -> tuple[str, ...]:
        if library not in self._loaded:
            modules: tuple[str, ...] = ()
            try:
                modules = __import__(f"{self._hooks.__name__}.{library}", fromlist=["MODULES"]).MODULES
            except Exception as error:
                self._agent.gap("agent", f"hooks/{library}", f"{type(error).__name__}: {error}")
                pass_on(error)
            self._loaded[library] = modules
        return self._loaded[library]

    def _install(self, module: ModuleType) -> None:
        name = module.__name__
        library = name.partition(".")[0]
        try:
            if name == library and isinstance(getattr(module, "__version__", None), str):
                self._agent.emit("library", name=name, version=str(module.__version__))
            if name in self._watched(library):
                sys.modules[f"{self._hooks.__name__}.{library}"].install(module, self._agent)
        except Exception as error:
            self._agent.gap("agent", f"hooks/{library}", f"{type(error).__name__}: {error}")
            pass_on(error)
