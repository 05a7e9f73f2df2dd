"""Who called: the user's own code, a library, or the standard library. And stand-ins for functions written in C."""

from __future__ import annotations

import os
import sys

from .process import encode_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Optional

_OWN_FOLDER = os.path.dirname(__file__) + "/"
INSIDERS = (_OWN_FOLDER, "<frozen ")
"""Starts of the file names of code that is the agent's, or frozen into the interpreter."""
STANDARD_LIBRARY = os.path.dirname(os.__file__) + "/"
PACKAGE_FOLDERS = ("/site-packages/", "/dist-packages/")

AGENT, STANDARD, LIBRARY, USER = "agent", "standard", "library", "user"


def outside(frame: Any, insiders: tuple[str, ...], passes_on: Optional[Callable[[Any], bool]] = None) -> Any:
    """Return the innermost frame of code that is none of ours, or `None`.

    Args:
        frame: Where to begin.
        insiders: Starts of the file names of other code to pass over, such as a library's folder.
        passes_on: Says of a frame whether it only passes the call on, and is passed over too.
    """
    insiders = (*INSIDERS, *insiders)
    while frame is not None:
        if not frame.f_code.co_filename.startswith(insiders) and not (passes_on and passes_on(frame)):
            return frame
        frame = frame.f_back
    return None


def place(frame: Any) -> str:
    """Return `file:line` of a frame."""
    return "<interpreter>:0" if frame is None else f"{encode_path(frame.f_code.co_filename)}:{frame.f_lineno}"


def call_site(library: str) -> str:
    """Return `file:line` of the innermost frame that is neither the agent's nor in the library."""
    return place(outside(sys._getframe(1), (library,)))


class Callers:
    """Tells callers apart by the file their code is from; a code string counts as the user's own.

    Args:
        through: Modules of the standard library that only pass a call on, such as `glob`.
    """

    def __init__(self, *through: str) -> None:
        self._through = tuple(
            start
            for name in through
            for start in (f"{STANDARD_LIBRARY}{name}.py", f"{STANDARD_LIBRARY}{name}/", f"<frozen {name}>")
        )
        self._kinds: dict[str, Optional[str]] = {}

    def site(self, *kinds: str) -> Optional[str]:
        """Return `file:line` of who called the function that asks, or `None` if that is code of no such kind."""
        frame: Any = sys._getframe(3)  # beyond us, the function that asks, and the stand-in
        while frame is not None:
            name = frame.f_code.co_filename
            kind = self._kinds.get(name, "")
            if kind == "":
                kind = self._kinds[name] = self._kind(name)
            if kind is not None:
                return f"{encode_path(name)}:{frame.f_lineno}" if kind in kinds else None
            frame = frame.f_back
        return None

    def _kind(self, name: str) -> Optional[str]:
        """Return the kind of code that a file holds; `None` for what only passes a call on."""
        if name.startswith(self._through):
            return None
        if name.startswith(_OWN_FOLDER) or "repro agent" in name:
            return AGENT
        if any(folder in name for folder in PACKAGE_FOLDERS):
            return LIBRARY
        return STANDARD if name.startswith((STANDARD_LIBRARY, "<frozen ")) else USER


class StandIn:
    """Takes the place of a function written in C, and is like it in not becoming a method as a class's attribute.

    Args:
        original: The function.
        module: Where it is known under its own name: pickles name it so.
        after: Called with its result and arguments; returns the result to hand on. It raises nothing.
    """

    def __init__(
        self, original: Any, module: str, after: Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]
    ) -> None:
        self.__wrapped__ = original
        self.__name__: str = original.__name__
        self.__qualname__ = self.__name__
        self.__doc__ = original.__doc__
        self.__text_signature__ = original.__text_signature__
        self.__module__ = module
        self._after = after

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function; what it raises shows no trace of us in its traceback, from Python 3.11 on."""
        try:
            result = self.__wrapped__(*args, **kwargs)
        except BaseException as error:
            error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
            raise
        return self._after(result, args, kwargs)

    def __repr__(self) -> str:
        return repr(self.__wrapped__)

    def __reduce__(self) -> str:
        return self.__name__
