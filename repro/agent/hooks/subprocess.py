"""Processes started by `subprocess`: keys of Python ones are claimed in the order in which they are started; and ends.

A shell, or a program that starts Python in its turn, hands no key on: what runs below it claims its own, in the order
in which it wakes. How a child ended is told when the standard library is told: a launcher thus says what became of
its ranks, which a rank that is killed cannot.
"""

from __future__ import annotations

import os

from .. import disguise
from ..process import CLAIMED_KEY, awaits_key, label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

    from repro.agent import Agent

MODULES = ("subprocess",)

_INJECT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "inject")
_POSITIONS = {"executable": 2, "shell": 8, "env": 10}
"""Of the arguments of `Popen`, the first one included."""


def install(module: Any, agent: Agent) -> None:
    """Watch `Popen`, which everything else in the module goes through, `asyncio` too."""
    original = module.Popen.__init__

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        key = agent.guard("agent", "subprocess", _claim, args, kwargs, agent)
        inherits = key is not None and _argument("env", args, kwargs) is None and _finds_agent(os.environ)
        if key is not None and not inherits:
            args, kwargs = _with_key(key, args, kwargs)
        try:
            if inherits:
                with agent.hand_over(key):
                    original(self, *args, **kwargs)
            else:
                original(self, *args, **kwargs)
        except BaseException as error:
            error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
            raise

    module.Popen.__init__ = disguise(__init__, original)
    _watch_ends(module.Popen, agent)


def _watch_ends(popen: Any, agent: Agent) -> None:
    """Tell how each child ended. `_handle_exitstatus` is what every way of waiting for one comes to."""
    original = popen._handle_exitstatus

    def _handle_exitstatus(self: Any, *args: Any, **kwargs: Any) -> Any:
        known = self.returncode
        found = original(self, *args, **kwargs)
        if known is None and isinstance(self.returncode, int):
            agent.emit("exit", pid=self.pid, status=self.returncode, at=agent.seconds())
        return found

    popen._handle_exitstatus = disguise(_handle_exitstatus, original)


def _claim(args: Any, kwargs: Any, agent: Agent) -> Optional[str]:
    """Claim the key of a Python process about to be started; `None` for any other program."""
    words = args[0] if args else kwargs.get("args")
    if _argument("shell", args, kwargs):
        return None
    words = [words] if isinstance(words, (str, bytes, os.PathLike)) else words
    if not isinstance(words, (list, tuple)) or not words:
        return None
    environment = _argument("env", args, kwargs)
    program = _argument("executable", args, kwargs) or words[0]
    if not awaits_key(program, os.environ if environment is None else environment):
        return None
    return agent.claim_for_child(label([os.fsdecode(word) for word in words]))


def _with_key(key: str, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Return the arguments with the key in the environment, which is the caller's and so is copied."""
    position = _POSITIONS["env"]
    given = _argument("env", args, kwargs)
    environment = {**(os.environ if given is None else given), CLAIMED_KEY: key}
    if not _finds_agent(environment):
        path = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = f"{_INJECT}{os.pathsep}{path}" if path else _INJECT
    if len(args) > position:
        return (*args[:position], environment, *args[position + 1 :]), kwargs
    return args, dict(kwargs, env=environment)


def _finds_agent(environment: Any) -> bool:
    return _INJECT in environment.get("PYTHONPATH", "").split(os.pathsep)


def _argument(name: str, args: Any, kwargs: Any) -> Any:
    position = _POSITIONS[name]
    return args[position] if len(args) > position else kwargs.get(name)
