"""Watch methods and constructors of classes written in C, whose attributes cannot be set.

A method's entry in the class's own dictionary is replaced, and the interpreter told to look it up anew: the class, its
instances and their pickles stay what they are. A constructor is no such entry; there a class stands in that hands out
real instances, and whose instances and subclasses are those of the real one.
"""

from __future__ import annotations

import sys

from . import disguise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def replace_method(owner: type, name: str, make: Callable[[Any], Any]) -> None:
    """Put a function in the place of a method.

    Args:
        owner: The class that defines it.
        name: The method's name.
        make: Given the method, returns the function.

    Raises:
        KeyError: The class does not define it.
        RuntimeError: The class's dictionary cannot be had. Nothing was changed.
    """
    ctypes = sys.modules.get("ctypes")
    if ctypes is None:
        raise RuntimeError("the interpreter cannot be told, since ctypes is not imported")
    from gc import get_referents

    found = [inner for inner in get_referents(owner.__dict__) if type(inner) is dict]
    if len(found) != 1 or found[0].keys() != owner.__dict__.keys():
        raise RuntimeError("the class's own dictionary was not found")
    original = found[0][name]
    found[0][name] = disguise(make(original), original)
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(owner))


class StandInType(type):
    """The type of classes that stand in for a class, `real`: `before` and `after` are called around its constructor."""

    real: type
    before: Callable[[Any, Any], Any]
    after: Callable[[], None]

    def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any], **options: Any) -> Any:
        """Make a user's subclass: of the real class, and so without us."""
        return type(
            name, tuple(base.real if isinstance(base, StandInType) else base for base in bases), body, **options
        )

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Make an instance of the real class."""
        args, kwargs = cls.before(args, kwargs)
        try:
            return cls.real(*args, **kwargs)
        except BaseException as error:
            error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
            raise
        finally:
            cls.after()

    def __instancecheck__(cls, instance: Any) -> bool:
        """Say yes to the real class's instances."""
        return isinstance(instance, cls.real)

    def __subclasscheck__(cls, subclass: type) -> bool:
        """Say yes to the real class and its subclasses."""
        return issubclass(subclass, cls.real)

    def __repr__(cls) -> str:
        return repr(cls.real)

    @property
    def __wrapped__(cls) -> type:
        return cls.real


def stand_in(
    real: type, module: str, before: Callable[[Any, Any], Any], after: Callable[[], None] = lambda: None
) -> Any:
    """Return a class that stands in for a real one in a module, where pickles name it.

    Args:
        real: The class.
        module: The module's name.
        before: Given a constructor's arguments, returns those to use: `(args, kwargs)`. It raises nothing.
        after: Called once the instance is made, or could not be made. It raises nothing either.
    """
    body = {
        "__slots__": (),
        "__doc__": real.__doc__,
        "__module__": module,
        "__qualname__": real.__qualname__,
        "real": real,
        "before": staticmethod(before),
        "after": staticmethod(after),
    }
    return type.__new__(StandInType, real.__name__, (real,), body)
