"""Determinism of PyTorch: the mode that the user asked for, each later change of it, operations that have no such way.

`REPRO_DETERMINISM` is `warn` or `strict`, or absent: then nothing is set. A mode is set once, when torch is imported;
what the training sets afterwards stands, and the change is told with its line. Operations are told by what torch itself
says of them: an error that nobody caught (`sys.last_value`, read at the end), or a warning.

Warnings come from C++ and pass through the filters of `warnings`, not through a function that could be wrapped. So in
`warn` mode the first filter is one of ours, which matches nothing that would be shown. A warning is shown once per line
of Python, which may be a line of torch's that two lines of the training call: its mark in the module's registry is
therefore taken away when it is shown, and our filter hides it from then on where the mark would have.
"""

from __future__ import annotations

import os
import re
import sys

from . import disguise
from .callers import INSIDERS, outside, place
from .interrupts import pass_on
from .process import encode_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Optional

    from repro.agent import Agent

MOST_TOLD = 1_000
"""How many changes and operations are told of one process; a gap says when there are more."""

_OPERATION = re.compile(
    r"^(?:[\w.]+Error: )?(.+?) does not have a deterministic implementation"
    r"|this operation is not deterministic because it uses (\w+)",
    re.MULTILINE,
)
"""What `Context::alertNotDeterministic` and `alertCuBLASConfigNotDeterministic` say (ATen/Context.cpp)."""
_SETTERS = (
    *("use_deterministic_algorithms", "set_deterministic_debug_mode", "set_num_threads", "set_num_interop_threads"),
    *("set_float32_matmul_precision", "set_default_dtype"),
)


def install(agent: Agent, torch: Any, library: str, settings: tuple[str, ...]) -> None:
    """Set the mode in a torch that was just imported, then watch who changes it.

    Args:
        agent: Where to tell it.
        torch: The module.
        library: Start of the paths of its code.
        settings: What to compare: path below torch, and a name where that is another.
    """
    watch = Determinism(agent, torch, library, settings)
    mode = os.environ.get("REPRO_DETERMINISM")
    if mode in ("warn", "strict"):
        agent.guard("trace", "determinism", watch.set_mode, mode)
        if mode == "warn":
            agent.guard("trace", "determinism warnings", watch.watch_warnings)
    agent.guard("trace", "determinism settings", watch.watch_setters)
    agent.on_fork(watch.forget)
    agent.on_moment(watch.at_moment)


class Determinism:
    """Determinism in one process; arguments as in `install`."""

    def __init__(self, agent: Agent, torch: Any, library: str, settings: tuple[str, ...]) -> None:
        self._agent = agent
        self._torch = torch
        self._library = library
        self._settings = settings
        self._told: set[tuple[str, ...]] = set()

    def forget(self) -> None:
        """Begin anew, as a forked child that has told nothing yet."""
        self._told = set()

    def set_mode(self, mode: str) -> None:
        """Ask for deterministic algorithms, and hold the number of threads to what it would have been."""
        torch = self._torch
        torch.use_deterministic_algorithms(True, warn_only=mode == "warn")
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        torch.set_num_threads(torch.get_num_threads())  # so that MKL does not choose fewer by itself

    # changes

    def watch_setters(self) -> None:
        """Compare the settings before and after each call that may change one."""
        torch = self._torch
        for name in _SETTERS:
            original = getattr(torch, name, None)
            if original is not None:
                watched = self._watched(self._settable_again(original) if "interop" in name else original)
                home = sys.modules.get(original.__module__ or "", torch)
                for module in (torch, home):  # both, or it could not be pickled any more
                    if getattr(module, name, None) is original:
                        setattr(module, name, watched)
        cudnn = torch.backends.cudnn
        module = getattr(cudnn, "m", cudnn)  # the module itself, where functions look up each other
        if hasattr(module, "set_flags"):
            module.set_flags = self._watched(module.set_flags)
        for holder in (type(cudnn), type(torch.backends.mkldnn)):
            for value in vars(holder).values():
                if callable(getattr(value, "setter", None)) and hasattr(value, "getter"):
                    value.setter = self._watched(value.setter)
        matmul = type(torch.backends.cuda.matmul)
        matmul.__setattr__ = self._watched(matmul.__setattr__)

    def _watched(self, original: Any) -> Any:
        agent = self._agent

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            before = agent.guard("trace", "determinism settings", self._read)
            try:
                return original(*args, **kwargs)
            except BaseException as error:
                error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
                raise
            finally:
                agent.guard("trace", "determinism settings", self._compare, before or {})

        return disguise(wrapper, original)

    def _settable_again(self, original: Any) -> Any:
        """On a replay the number may be set already, to what the training is about to set; torch allows that once."""
        agent, torch = self._agent, self._torch
        restored = agent.settings.get("torch.num_interop_threads")
        if restored is None:
            return original

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if not kwargs and len(args) == 1 and str(args[0]) == restored == str(torch.get_num_interop_threads()):
                return None
            return original(*args, **kwargs)

        return disguise(wrapper, original)

    def _read(self) -> dict[str, str]:
        found = {}
        for entry in self._settings:
            path, _, name = entry.partition(" ")
            try:
                value = self._torch
                for attribute in path.split("."):
                    value = getattr(value, attribute)
                found[name or f"torch.{path}"] = str(value() if callable(value) else value)
            except (AttributeError, RuntimeError):  # this torch has it not, or its older and newer switch are at odds
                continue
        return found

    def _compare(self, before: dict[str, str]) -> None:
        changed = [
            (name, before[name], value) for name, value in self._read().items() if before.get(name, value) != value
        ]
        if changed and not self._by_torch():
            site = self._site(sys._getframe(1))
            for name, old, value in changed:
                self._tell("change", name, old, value, site)

    def _by_torch(self) -> bool:
        """Say whether torch itself sets, as a worker of its DataLoader does; its context managers act for others."""
        frame = outside(sys._getframe(1), (), _is_context_manager)
        name = frame.f_code.co_filename if frame is not None else ""
        return name.startswith(self._library) and not name.startswith(self._library + "backends/")

    # operations

    def watch_warnings(self) -> None:
        """See each warning of torch's about an operation, shown or not."""
        import warnings

        first = _FirstFilter(self._on_text)
        agent = self._agent

        def mutated(args: Any, kwargs: Any) -> None:
            first.stand(warnings)

        def shown(args: Any, kwargs: Any) -> None:
            first.shown(args[0], outside(sys._getframe(1), (), _is_context_manager))

        subject = "determinism warnings"
        for name, before in (("_filters_mutated", mutated), ("_showwarnmsg", shown)):
            setattr(warnings, name, agent.wrap(getattr(warnings, name), before, "trace", subject))
        first.stand(warnings)

    def _on_text(self, text: str) -> bool:
        found = _operation(text)
        if found is not None:
            self._tell("operation", found, None, "warned", self._site(sys._getframe(2)))
        return found is not None

    def at_moment(self, moment: str) -> None:
        """Tell at the end of the operation that ended the process, if one did."""
        error = getattr(sys, "last_value", None) if moment == "end" else None
        seen: set[int] = set()
        while error is not None and id(error) not in seen:
            seen.add(id(error))
            found = _operation(str(error)) if isinstance(error, Exception) else None
            if found is not None:
                self._tell("operation", found, None, "refused", self._site_of(error))
                return
            error = error.__cause__ or error.__context__

    # telling

    def _tell(self, kind: str, name: str, before: Optional[str], value: str, site: str) -> None:
        key = (kind, name, str(before), value, site)
        if key in self._told:
            return
        if len(self._told) >= MOST_TOLD:
            self._agent.gap(
                "trace", "determinism", f"more than {MOST_TOLD} changes and operations; the rest is not told"
            )
            return
        self._told.add(key)
        self._agent.emit("determinism", kind=kind, name=name, before=before, value=value, site=site)

    def _site(self, frame: Any) -> str:
        """Return `file:line` of the innermost frame that is not ours, torch's or a context manager's."""
        return place(outside(frame, (self._library,), _is_context_manager))

    def _site_of(self, error: BaseException) -> str:
        """Return `file:line` of the innermost place in an error's traceback that is not torch's."""
        site, step = "<interpreter>:0", error.__traceback__
        while step is not None:
            name = step.tb_frame.f_code.co_filename
            if not name.startswith((*INSIDERS, self._library)):
                site = f"{encode_path(name)}:{step.tb_lineno}"
            step = step.tb_next
        return site


class _FirstFilter:
    """A filter of `warnings` that sees every warning that is looked up.

    Args:
        sees: Called with each text; says whether it is of an operation.
    """

    def __init__(self, sees: Callable[[str], bool]) -> None:
        self._sees = sees
        self._item = ("ignore", self, Warning, None, 0)
        self._hidden: set[tuple[int, int, str]] = set()

    def stand(self, warnings: Any) -> None:
        """Go to the front, whatever the training has put there; the registries are about to be forgotten."""
        self._hidden.clear()
        filters = warnings.filters
        if not filters or filters[0] is not self._item:
            filters[:] = [self._item, *(item for item in filters if item is not self._item)]

    def match(self, text: str) -> bool:
        """Say whether to ignore a warning: `warnings` calls this as if we were a compiled pattern."""
        try:
            frame = sys._getframe(1)
            return self._sees(text) and (id(frame.f_globals), frame.f_lineno, text) in self._hidden
        except Exception as error:
            pass_on(error)
            return False

    def shown(self, message: Any, frame: Any) -> None:
        """Take the mark away that a shown warning left, and hide it ourselves from now on."""
        text = str(message.message)
        if frame is None or _operation(text) is None:
            return
        registry = frame.f_globals.get("__warningregistry__") or {}
        if registry.pop((text, message.category, message.lineno), None):
            self._hidden.add((id(frame.f_globals), message.lineno, text))


def _operation(text: str) -> Optional[str]:
    """Return the operation that torch complains of, or `None` if the text is about something else."""
    if "determinis" not in text:
        return None
    found = _OPERATION.search(text)
    return (found.group(1) or found.group(2))[:200] if found else None


def _is_context_manager(frame: Any) -> bool:
    return bool(frame.f_code.co_filename.endswith("/contextlib.py"))
