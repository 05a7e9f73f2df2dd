"""Exceptions of the user's signal handlers: one may come up while our code runs, and is not ours to keep.

A time limit by `signal.alarm`, whose handler raises, would be lost in us. A handler is known by its code, which is in
the exception's traceback; nothing is looked up until something has been raised.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MOST_SIGNALS = 65


def pass_on(error: BaseException) -> None:
    """Raise an exception that a signal handler of the user's has raised; return for any other.

    Raises:
        BaseException: It is the user's. Its traceback begins in his handler.
    """
    module, trace = sys.modules.get("_signal"), error.__traceback__
    if module is None or trace is None:
        return
    codes = {_code_of(handler) for handler in _handlers(module)} - {None}
    while codes and trace is not None:
        if trace.tb_frame.f_code in codes:
            raise error.with_traceback(trace)
        trace = trace.tb_next


def _handlers(module: Any) -> list[Any]:
    found = []
    for number in range(1, _MOST_SIGNALS):
        try:
            found.append(module.getsignal(number))
        except ValueError:  # no signal of this system
            continue
    return found


def _code_of(handler: Any) -> Any:
    """Return the code of a function, a method, a partial, or an object that can be called."""
    kind = type(handler)
    if kind.__module__ == "functools" and kind.__name__ == "partial":
        return _code_of(handler.func)
    if kind.__name__ == "method":
        handler = handler.__func__
    elif kind.__name__ != "function":
        handler = kind.__dict__.get("__call__")
    return getattr(handler, "__code__", None) if type(handler).__name__ == "function" else None
