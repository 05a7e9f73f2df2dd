"""Tell each operation of one step as the dispatcher runs it (`REPRO_TRACE_OPERATIONS=STEP`).

What it was given, what it gave back, and the line that called it. The step is one of the first optimizer that steps,
or a backward pass where none does; its operations are those after the end of the step before, and of step 0 all since
torch was imported. They run as they would: the mode that sees them calls each as it came. Of one that autograd called,
the site is that of the forward operation that it belongs to.
"""

from __future__ import annotations

import os
import sys

from ..callers import INSIDERS, place
from .fingerprint import Fingerprints, digits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

    from repro.agent import Agent

VARIABLE = "REPRO_TRACE_OPERATIONS"
MOST_OPERATIONS = 50_000
BACKWARD = " backward"
"""Stands behind a site where autograd called the operation, and the site is that of the forward one."""

_OWN_FOLDER = INSIDERS[0]
_UNSET = ("empty", "resize", "new_empty", "set_")
"""How operations are called whose result is what happened to lie in memory."""
_OVERWRITING = ("copy_", "fill_", "zero_", "uniform_", "normal_", "random_", "bernoulli_", "exponential_", "set_")
"""Those whose result does not depend on what they write over."""


class Operations:
    """The operations of one step of one process.

    Args:
        agent: Where to tell them.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        text = os.environ.get(VARIABLE, "")
        self._step = int(text) if text.isdigit() else None
        self._mode: Any = None
        self._told: list[tuple[str, str, str, str]] = []
        self._sites: dict[int, str] = {}
        self._lost = 0
        if self.wanted:
            agent.on_fork(self._drop)

    @property
    def wanted(self) -> bool:
        """Whether some step is to be told so."""
        return self._step is not None

    def attach(self, torch: Any, library: str) -> None:
        """Take the library, which has just been imported, and see what it runs if that belongs to the step.

        Args:
            torch: The module.
            library: Its folder, with the slash.
        """
        if self._step is None:
            return
        self._torch = torch
        self._library = library
        self._fingerprints = Fingerprints(self._agent, torch)
        self._node = getattr(torch._C, "_current_autograd_node", None)
        self._sequence = getattr(torch._C._autograd, "_get_sequence_nr", None)
        torch.compile = self._agent.wrap(torch.compile, self._before_compile, "trace", "operations")
        if self._step == 0:
            self._begin()

    def after_step(self, anchor: str, steps: int) -> None:
        """Be told that a step has ended, the steps-th."""
        if self._step is None:
            return
        if steps == self._step and self._mode is None:
            self._agent.guard("trace", "operations", self._begin)
        elif steps == self._step + 1 and self._mode is not None:
            self._agent.guard("trace", "operations", self._finish, anchor)

    def _begin(self) -> None:
        mode = _mode_of(self._torch)(self._see)
        _enter(self._torch, mode)
        self._mode = mode

    def _finish(self, anchor: str) -> None:
        mode, self._mode = self._mode, None
        _leave(self._torch, mode)
        for name, inputs, words, site in self._told:
            self._agent.emit(
                "operation", anchor=anchor, step=self._step, name=name, inputs=inputs, words=words, site=site
            )
        if self._lost:
            reason = f"of more than {MOST_OPERATIONS} operations of a step, the later {self._lost}"
            self._agent.gap("trace", "operations", reason)
        self._told, self._sites, self._step = [], {}, None

    def _drop(self) -> None:
        """Leave it to the parent: in a forked child."""
        mode, self._mode = self._mode, None
        self._told, self._sites = [], {}
        if mode is not None:
            self._agent.guard("trace", "operations", _leave, self._torch, mode)

    def _before_compile(self, args: Any, kwargs: Any) -> None:
        self._agent.gap("trace", "operations", "what torch.compile has compiled is told only as far as it calls others")
        if not hasattr(self._torch.utils._python_dispatch.TorchDispatchMode, "ignore_compile_internals"):
            self._drop()  # under such a mode this torch would not compile at all
            self._step = None

    # for each operation

    def _see(self, function: Any, args: Any, kwargs: Any) -> Any:
        """Call an operation as it came, and note what it did."""
        if self._mode is None:
            return function(*args, **kwargs)
        noted = self._agent.guard("trace", "operations", self._note, function, args, kwargs)
        result = function(*args, **kwargs)
        if noted is not None:
            self._agent.guard("trace", "operations", self._note_result, noted, function, args, kwargs, result)
        return result

    def _note(self, function: Any, args: Any, kwargs: Any) -> Optional[tuple[str, str, str]]:
        """Return name, inputs and site of an operation that is about to run; `None` for one of ours."""
        site = self._site()
        if site is None or self._is_capturing():
            return None
        if len(self._told) >= MOST_OPERATIONS:
            self._lost += 1
            return None
        name = str(function.name()) if hasattr(function, "_schema") else f"higher order {function}"
        if name.startswith("profiler::"):
            return None
        return name, self._inputs(name, function, args, kwargs), site

    def _note_result(self, noted: tuple[str, str, str], function: Any, args: Any, kwargs: Any, result: Any) -> None:
        name, inputs, site = noted
        found = {id(each): each for each in (*_tensors(self._torch, result), *self._written(function, args, kwargs))}
        unset = _short(name).startswith(_UNSET)
        words = "".join([digits(None if unset else self._word(each)) for each in found.values()])
        self._told.append((name, inputs, words, site))

    def _inputs(self, name: str, function: Any, args: Any, kwargs: Any) -> str:
        """Return types, shapes and fingerprints of the tensors given, and of the generator's state if one is used."""
        out = name.endswith((".out", "_out")) or _short(name).startswith(_OVERWRITING)
        written = {id(each) for each in self._written(function, args, kwargs)} if out else set()
        texts = []
        for tensor in _tensors(self._torch, (args, kwargs)):
            word = "" if id(tensor) in written else f" {digits(self._word(tensor))}"
            shape = ",".join([str(extent) for extent in tensor.shape])
            texts.append(f"{str(tensor.dtype).rpartition('.')[2]}[{shape}]{word}")
        values = [_value_text(each) for each in (*args, *kwargs.values())]
        return ", ".join([*texts, *[text for text in values if text], *self._generator(function, kwargs)])

    def _generator(self, function: Any, kwargs: Any) -> list[str]:
        tag = getattr(self._torch.Tag, "nondeterministic_seeded", None)
        if tag is None or tag not in getattr(function, "tags", ()):
            return []
        generator = kwargs.get("generator") or self._torch.default_generator
        return [f"generator {digits(self._word(generator.get_state()))}"]

    def _written(self, function: Any, args: Any, kwargs: Any) -> list[Any]:
        """Return the tensors that an operation writes to, by its schema."""
        schema = getattr(function, "_schema", None)
        if schema is None or not schema.is_mutable:
            return []
        given = []
        for position, argument in enumerate(schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                given.append(args[position] if position < len(args) else kwargs.get(argument.name))
        return list(_tensors(self._torch, given))

    def _word(self, tensor: Any) -> Any:
        with self._torch.no_grad():
            word = self._fingerprints.of_tensor(tensor)
        return word if word is None or isinstance(word, int) else int(word.item())

    def _is_capturing(self) -> bool:
        cuda = self._torch.cuda
        if not cuda.is_initialized() or not cuda.is_current_stream_capturing():
            return False
        self._agent.gap("trace", "operations", "those inside a CUDA graph are not read")
        return True

    def _site(self) -> Optional[str]:
        """Return who called, as `file:line`; `None` where it was us."""
        frame: Any = sys._getframe(5)
        while frame is not None and frame.f_code.co_filename.startswith((self._library, "<frozen ")):
            frame = frame.f_back
        if frame is not None and frame.f_code.co_filename.startswith(_OWN_FOLDER):
            return None
        node = None if self._node is None else self._node()
        if node is not None:
            number = node._sequence_nr() if hasattr(node, "_sequence_nr") else -1
            known = self._sites.get(number)
            return "" if known is None else known + BACKWARD
        if frame is None:
            return ""
        site = place(frame)
        if self._sequence is not None:  # the node of this operation, if it has one, was made just before it runs
            self._sites.setdefault(self._sequence() - 1, site)
        return site


_modes: dict[int, Any] = {}


def _mode_of(torch: Any) -> Any:
    """Return the class of the mode; it can be made only once torch is there."""
    if id(torch) in _modes:
        return _modes[id(torch)]
    base: Any = torch.utils._python_dispatch.TorchDispatchMode

    class OperationMode(base):  # type: ignore[misc]
        supports_higher_order_operators = True

        def __init__(self, see: Any) -> None:
            super().__init__()
            self.see = see

        @classmethod
        def ignore_compile_internals(cls) -> bool:
            return True

        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            return False  # else the compiler would be imported, whether it is used or not

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return self.see(func, args, kwargs or {})

    _modes[id(torch)] = OperationMode
    return OperationMode


def _enter(torch: Any, mode: Any) -> None:
    """Put a mode beneath those of the user: each of these must be the last when it is left."""
    dispatch = torch.utils._python_dispatch
    above = _taken_off(dispatch)
    for each in (mode, *above):
        dispatch._push_mode(each)


def _leave(torch: Any, mode: Any) -> None:
    """Take a mode off the stack, wherever in it that is."""
    dispatch = torch.utils._python_dispatch
    for each in _taken_off(dispatch):
        if each is not mode:
            dispatch._push_mode(each)


def _taken_off(dispatch: Any) -> list[Any]:
    """Take all modes off the stack that are no part of torch's own machinery, and return them, the lowest first."""
    found: list[Any] = []
    while True:
        top = dispatch._get_current_dispatch_mode()
        if top is None or getattr(top, "_mode_key", None) is not None:
            return found
        found.insert(0, dispatch._pop_mode())


def _tensors(torch: Any, value: Any) -> list[Any]:
    """Return the tensors in nested tuples, lists and dictionaries, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return [tensor for each in value for tensor in _tensors(torch, each)]
    return []


def _value_text(value: Any) -> str:
    return repr(value) if isinstance(value, (bool, int, float)) else ""


def _short(name: str) -> str:
    """Return an operation's name without its library and overload: `add` of `aten::add.Tensor`."""
    return name.rpartition("::")[2].partition(".")[0]
