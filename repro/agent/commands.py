"""The values that a command of click, or of what has grown out of it, is about to be run with."""

from __future__ import annotations

from .hyperparameters import HIDDEN, caller, installed_package, is_of_program, tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent


def watch_commands(module: Any, agent: Agent, source: str, library: str) -> None:
    """Tell of `Context.params` of each command that is invoked; those of a subcommand stand below its name.

    An option that is asked for with `hide_input` is a password: its value is not told.

    Args:
        module: What defines `Command`.
        agent: Where to tell it.
        source: The library's name.
        library: Start of the paths of its code.
    """

    def before(args: Any, kwargs: Any) -> None:
        context = args[1] if len(args) > 1 else kwargs["ctx"]
        command = context.command
        site, _ = caller(library)
        if is_of_program(_package_of(command.callback), whole_command_line=True):
            hidden = {each.name for each in command.params if getattr(each, "hide_input", False)}
            values = {name: HIDDEN if name in hidden else value for name, value in context.params.items()}
            tell(agent, source, values, site, prefix=_subcommand(context))

    original = module.Command.invoke
    module.Command.invoke = agent.wrap(original, before, "trace", f"{source} command")


def _subcommand(context: Any) -> str:
    """Return the names of the subcommands, joined by dots; "" for the program itself."""
    names: list[str] = []
    while context.parent is not None:
        names.insert(0, str(context.info_name or context.command.name))
        context = context.parent
    return ".".join(names)


def _package_of(callback: Any) -> str:
    """Return the installed package whose function a command runs, or ""."""
    while hasattr(callback, "__wrapped__"):
        callback = callback.__wrapped__
    code = getattr(callback, "__code__", None)
    return "" if code is None else installed_package(code.co_filename, callback.__globals__.get("__name__"))
