"""Wake the agent in a Python process, then make way for the `sitecustomize` that this file hides.

This folder is the only one that `repro record` puts on PYTHONPATH. Python imports this file before any user code; it
loads the agent by path, under the name `_repro_agent`, so that neither `repro` nor anything it depends on need exist
in the environment being recorded. PYTHONPATH stays as it is, because child processes need it; `sys.path` is put
right.
"""

import _frozen_importlib
import _frozen_importlib_external
import os
import sys


def _wake() -> None:
    """Load and start the agent. Never raises: training goes on, and the missing start event becomes a gap."""
    try:
        folder = __file__.rpartition("/")[0]
        sys.path[:] = [entry for entry in sys.path if entry != folder]
        sys.path_importer_cache.pop(folder, None)
        if not os.environ.get("REPRO_EVENTS"):
            return
        package = folder.rpartition("/")[0]
        spec = _frozen_importlib_external.spec_from_file_location(
            "_repro_agent", package + "/__init__.py", submodule_search_locations=[package]
        )
        _frozen_importlib._load(spec).start()  # type: ignore[attr-defined]
    except Exception:
        pass


def _give_way() -> None:
    """Run the next `sitecustomize` on the path in our place, errors included.

    Raises:
        ImportError: There is none. It names `sitecustomize`: Python's `site` expects that, and passes it over.
    """
    spec = _frozen_importlib_external.PathFinder.find_spec(__name__)
    if spec is None or spec.loader is None or spec.origin == __file__:
        raise ImportError(f"No module named {__name__!r}", name=__name__)
    module = _frozen_importlib.module_from_spec(spec)
    sys.modules[__name__] = module
    spec.loader.exec_module(module)


_wake()
_give_way()
