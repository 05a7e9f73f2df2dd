"""The values that a run was configured with: as text, told when they are first seen and when they change.

Nested names are joined by dots: those of dictionaries, namespaces, dataclasses, and lists of these. Nothing that a user
wrote is called to make the text: of what is no plain value, only the type is told.
"""

from __future__ import annotations

import os
import sys
from _thread import _local

from . import disguise
from .callers import PACKAGE_FOLDERS, STANDARD_LIBRARY, outside, place
from .interrupts import pass_on

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Optional

    from repro.agent import Agent

LONGEST_VALUE = 500
"""Characters; a longer text ends with how long it was."""
MOST_VALUES = 5_000
"""How many names are told in one process; a gap says when there are more."""
MOST_CHANGES = 100_000
"""How often values are told in one process, changes included; a gap says when there are more."""
MOST_ITEMS = 1_000
"""How many items of a sequence are written as text: more would be cut anyway."""
MOST_DEPTH = 16
HIDDEN = "(hidden)"
"""Stands for what a library itself calls a secret."""
_LONGEST_INTEGER = 4_096
"""In bits; longer ones are written in hexadecimal, since Python refuses to write very long ones in decimal."""
_FIELDS = "__dataclass_fields__"

_PLAIN_MODULES = frozenset(
    ("datetime", "decimal", "fractions", "ipaddress", "pathlib", "pathlib._local", "uuid", "zoneinfo")
)
"""Whose classes write themselves as text, and do nothing else."""
_LAUNCHERS = frozenset(
    (
        *("IPython", "_pytest", "accelerate", "coverage", "dask", "debugpy", "deepspeed", "distributed", "flask"),
        *("gunicorn", "horovod", "hydra", "ipykernel", "joblib", "mlflow", "mpi4py", "nbconvert", "pip", "pydevd"),
        *("pytest", "ray", "streamlit", "submitit", "torch", "tox", "uvicorn", "wandb"),
    )
)
"""Installed programs that parse a command line of their own to run somebody else's program, or to serve it."""

_told: dict[tuple[str, str], str] = {}
_changes: Iterator[int] = iter(range(MOST_CHANGES + 1))
_listening: list[Agent] = []
_calls = _local()


def tell(agent: Agent, source: str, values: Any, site: str, prefix: str = "") -> None:
    """Tell of values, but for those that the same source has told before and that have not changed.

    Args:
        agent: Where to tell it.
        source: Who read them: argparse, click, hydra …
        values: A dictionary, namespace or dataclass.
        site: `file:line` of who asked for them.
        prefix: Stands before each name, with a dot.
    """
    if agent not in _listening:
        _listening.append(agent)
        agent.on_fork(_told.clear)
    for name, text in flatten(values, prefix):
        if _told.get((source, name)) == text:
            continue
        if len(_told) >= MOST_VALUES and (source, name) not in _told:
            agent.gap("trace", "hyperparameters", f"more than {MOST_VALUES} names were read; the rest is not kept")
            return
        if next(_changes) >= MOST_CHANGES:
            agent.gap("trace", "hyperparameters", f"more than {MOST_CHANGES} values were read; the rest is not kept")
            return
        _told[source, name] = text
        agent.emit("hyperparameter", source=source, name=name, value=text, site=site)


def flatten(value: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """Return the names and texts of a value and of all that is nested in it."""
    nested = members(value) if depth < MOST_DEPTH else None
    if nested is None:
        yield (name or "value")[:LONGEST_VALUE], shorten(text_of(value))
    elif not nested and name:
        yield name[:LONGEST_VALUE], "{}"
    for key, member in nested or ():
        yield from flatten(member, f"{name}.{key}" if name else key or "''", depth + 1)


def text_of(value: Any, depth: int = 0) -> str:
    """Return a value as text: numbers as Python writes them, strings as they are, the type alone of what is unknown."""
    kind = type(value)  # not isinstance(), which asks an object of what class it says it is
    if issubclass(kind, _class_of("enum", "Enum")):
        held = object.__getattribute__(value, "__dict__")
        text = held.get("_value_")
        return str.__str__(text) if isinstance(text, str) else f"{kind.__qualname__}.{held.get('_name_')}"
    if issubclass(kind, str):
        return repr(str.__str__(value)) if depth else str.__str__(value)
    for text in (_text_of_number(value, kind), _text_of_container(value, kind, depth)):
        if text is not None:
            return text
    return _text_of_object(value, kind)


def shorten(text: str) -> str:
    """Return a text of at most `LONGEST_VALUE` characters, which says how long the whole was if it is cut."""
    if len(text) <= LONGEST_VALUE:
        return text
    ending = f" … ({len(text)} characters)"
    return text[: LONGEST_VALUE - len(ending)] + ending


def caller(library: str, own: Any = None) -> tuple[str, str]:
    """Return `file:line` of who called into a library, and the installed package it belongs to, or "".

    Args:
        library: Path, or start of the paths, of the library's code.
        own: An object of the library: methods of its class, wherever that was written, are passed over too.
    """
    frame = outside(sys._getframe(1), (library,), lambda frame: _is_method_of(own, frame))
    if frame is None:
        return place(frame), ""
    return place(frame), installed_package(frame.f_code.co_filename, frame.f_globals.get("__name__"))


def is_of_program(package: str, whole_command_line: bool) -> bool:
    """Say whether what was parsed configures the program that runs, and not a tool or a library inside it.

    Code that is not installed is the user's own: it does. An installed package does where it parses the process's
    command line, unless it is of the standard library or is known to start other people's programs.
    """
    return not package or (whole_command_line and package != "(standard library)" and package not in _LAUNCHERS)


def after(agent: Agent, original: Any, action: Callable[..., None], subject: str) -> Any:
    """Return a function that calls the original, and then `action(result, args, kwargs)`, outermost calls alone.

    What `action` raises becomes a gap. What the original raises passes through. A call within a call of a function
    that was wrapped with the same subject, on the same thread, is part of the outer one.
    """

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        busy = _calls.__dict__.setdefault("subjects", set())
        if subject in busy:
            return original(*args, **kwargs)
        busy.add(subject)
        try:
            result = original(*args, **kwargs)
        except BaseException as error:
            error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
            raise
        finally:
            busy.discard(subject)
        try:
            action(result, args, kwargs)
        except Exception as error:
            agent.gap("trace", subject, f"{type(error).__name__}: {error}")
            pass_on(error)
        return result

    return disguise(wrapper, original)


def members(value: Any) -> Optional[list[tuple[str, Any]]]:
    """Return what is nested in a value, by name; `None` of what has no names in it."""
    plain: Any
    value = unresolved(value)
    if issubclass(type(value), dict):
        return [(text_of(key), member) for (key, member), _ in zip(dict.items(value), range(MOST_VALUES + 1))]
    for plain in (list, tuple):
        if issubclass(type(value), plain):
            items = list(plain.__iter__(value))
            nested = any(issubclass(type(item), dict) or _record(item) is not None for item in items)
            return [(str(number), item) for number, item in enumerate(items)] if nested else None
    return _record(value)


def _record(value: Any) -> Optional[list[tuple[str, Any]]]:
    """Return the fields of a dataclass, or what a namespace holds; `None` of anything else."""
    kind = type(value)
    fields = next((vars(each)[_FIELDS] for each in kind.__mro__ if _FIELDS in vars(each)), None)
    if fields is None and not issubclass(kind, (type(sys.implementation), *_class_of("argparse", "Namespace"))):
        return None
    try:
        held = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return None  # a dataclass with slots
    return [(text_of(name), member) for name, member in held.items() if fields is None or name in fields]


def unresolved(value: Any) -> Any:
    """Return an OmegaConf configuration as plain containers, with its interpolations as they are written."""
    if issubclass(type(value), _class_of("omegaconf", "Container")):
        return sys.modules["omegaconf"].OmegaConf.to_container(value, resolve=False)
    return value


def _class_of(module: str, name: str) -> tuple[type, ...]:
    """Return a class in a tuple; an empty one where nobody has imported its module."""
    found = getattr(sys.modules.get(module), name, None)
    return (found,) if isinstance(found, type) else ()


def _text_of_number(value: Any, kind: type) -> Optional[str]:
    plain: Any
    for plain in (bool, int, float, complex, bytes, type(None)):
        if issubclass(kind, plain):
            long = plain is int and int.bit_length(value) > _LONGEST_INTEGER
            return hex(int.__index__(value)) if long else str(plain.__repr__(value))
    return None


def _text_of_container(value: Any, kind: type, depth: int) -> Optional[str]:
    if issubclass(kind, list):
        return "[" + ", ".join(_texts(list.__iter__(value), list.__len__(value), depth)) + "]"
    if issubclass(kind, tuple):
        return "(" + ", ".join(_texts(tuple.__iter__(value), tuple.__len__(value), depth)) + ")"
    if issubclass(kind, (set, frozenset)):  # the order of its own varies from run to run
        plain: Any = set if issubclass(kind, set) else frozenset
        size = plain.__len__(value)
        items = plain.__iter__(value) if size <= MOST_ITEMS else ()
        return "{" + ", ".join(sorted(_texts(items, size, depth))) + "}"
    if issubclass(kind, dict):
        size = dict.__len__(value)
        pairs = zip(_texts(dict.keys(value), 0, depth), _texts(dict.values(value), 0, depth))
        return "{" + ", ".join([*_count(size), *(f"{key}: {member}" for key, member in pairs)]) + "}"
    return None


def _texts(items: Any, size: int, depth: int) -> list[str]:
    """Return the texts of the first items, after the number of all where these are too many to write."""
    if depth >= MOST_DEPTH:
        return ["…"]
    return [*_count(size), *(text_of(item, depth + 1) for item, _ in zip(items, range(MOST_ITEMS)))]


def _count(size: int) -> list[str]:
    return [f"{size} items"] if size > MOST_ITEMS else []


def _text_of_object(value: Any, kind: type) -> str:
    if issubclass(kind, type):
        return _qualified(value)
    if kind.__module__ == "builtins" and kind.__name__ in ("function", "builtin_function_or_method", "method"):
        return f"{value.__module__}.{value.__qualname__}"
    if kind.__module__ in _PLAIN_MODULES or (kind.__module__ == "torch" and kind.__name__ in ("dtype", "device")):
        return str(value)
    if kind.__module__ in ("_io", "click.utils") and isinstance(getattr(value, "name", None), str):
        return str(value.name)
    if kind.__module__.partition(".")[0] == "numpy" and issubclass(kind, _class_of("numpy", "generic")):
        return str(value)
    return f"<{_qualified(kind)}>"


def _qualified(kind: type) -> str:
    module = type.__getattribute__(kind, "__module__")
    return f"{module}.{type.__getattribute__(kind, '__qualname__')}"


def _is_method_of(own: Any, frame: Any) -> bool:
    code = frame.f_code
    return own is not None and code.co_argcount > 0 and frame.f_locals.get(code.co_varnames[0]) is own


def installed_package(file: str, module: Any) -> str:
    """Return the top-level package that a file belongs to if pip has installed it, else ""."""
    for mark in PACKAGE_FOLDERS:
        if mark in file:
            return file.rpartition(mark)[2].partition("/")[0].partition(".")[0]
    if file.startswith(STANDARD_LIBRARY):
        return "(standard library)"
    top = module.partition(".")[0] if isinstance(module, str) else "__main__"
    if top == "__main__":
        return ""
    folder = next((entry for entry in sys.path if entry and file.startswith(f"{entry}/{top}")), "")
    return top if folder and _has_installed(folder) else ""


def _has_installed(folder: str) -> bool:
    """Say whether a folder is a target of `pip install`: only that leaves these folders."""
    try:
        return any(name.endswith(".dist-info") for name in os.listdir(folder))
    except OSError:
        return False
