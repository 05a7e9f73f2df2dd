"""Plug folders: the file name is the plug's name, and adding one touches one file."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from repro.errors import UsageError


def names(package: ModuleType) -> tuple[str, ...]:
    """Return the plugs in a plug folder, sorted by name, without importing any."""
    return tuple(sorted(found.name for found in pkgutil.iter_modules(package.__path__)))


def load(package: ModuleType, name: str) -> ModuleType:
    """Import one plug.

    Raises:
        UsageError: There is no plug of that name; the message lists those there are.
    """
    known = names(package)
    if name not in known:
        kind = package.__name__.rpartition(".")[2].removesuffix("s")
        raise UsageError(f"there is no {kind} named {name!r}", hint=f"choose one of: {', '.join(known)}")
    return importlib.import_module(f"{package.__name__}.{name}")
