"""Hooks: one file per library, named like the top-level module it is for. Loaded when the user imports that library.

A hook file has:

    MODULES: tuple[str, ...]
        The modules after whose import `install` is called: the library itself, or modules inside it.
    def install(module: ModuleType, agent: Agent) -> None
        Called just after `module` ran, each time it runs. What it raises becomes a gap.

What a hook may do with the agent is the public part of `Agent` in this folder's parent. A hook watches: it reads
generators and never draws from them, imports nothing that the user did not import, and lets every exception of the
library through untouched. It must be as good on Python 3.9, with the standard library alone, and across `os.fork`.
"""
