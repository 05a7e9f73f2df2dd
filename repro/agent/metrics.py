"""Numbers that the run itself logs, through a tracker, a framework or `repro.log_metric`: the one way into the log.

What is kept are series: the values that one writer gives one name, at steps that only rise. Names in the record:

- the name as it was given, where nobody had it before;
- `SOURCE/NAME` (`tensorboard/loss`) where another source had it, and always for the agent's own names: `loss`,
  `gradient_norm`, `learning_rate.…` and `optimizer.…` are what the agent saw, never what the run said of itself;
- one of these with `#2`, `#3`, … where the same source had it already: another run or folder of the same tracker, or a
  step that is not above the one before. So a value told twice for one step is kept twice.

Steps are the tracker's own. A value without one comes after the highest so far, from 0.
"""

from __future__ import annotations

import sys
from _thread import RLock

from . import clock
from .interrupts import pass_on
from .log import to_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

    from repro.agent import Agent

MOST_SERIES = 20_000
"""How many series are kept per process; a gap says when there are more."""
MOST_DEPTH = 16
"""How deep dictionaries of metrics are nested; a gap says when they are deeper."""
FETCH_EVERY = 64
"""How many values wait on devices before they are fetched together, so that no step waits for its own."""

_HIGHEST_STEP = 2**63 - 1
_EXACT = 2**53

_shared: list[Metrics] = []
_dtypes: dict[Any, str] = {}


def shared(agent: Agent) -> Metrics:
    """Return the one `Metrics` of this process, so that all sources have one list of names."""
    if not _shared:
        _shared.append(Metrics(agent))
    return _shared[0]


class _Series:
    """One series: its name, escaped for JSON, and its highest step."""

    __slots__ = ("highest", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.highest = -1


class Metrics:
    """The metrics that were logged in one process. Nothing here raises or waits for a device.

    Args:
        agent: Where to tell them.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._reset()
        agent.on_fork(self._reset)
        agent.on_moment(self._at_moment)

    def _reset(self) -> None:
        self._lock = RLock()  # a signal handler or a finaliser may log, too
        self._series: dict[tuple[str, str, str], _Series] = {}
        self._sources: dict[str, str] = {}
        self._names: set[str] = set()
        self._numbers: dict[str, int] = {}
        self._on_device: list[tuple[str, int, float, str, Any]] = []

    def tell(self, source: str, name: Any, value: Any, step: Any = None, owner: str = "") -> None:
        """Tell one number.

        Args:
            source: Who was given it: tensorboard, mlflow, wandb, repro …
            name: As it was given.
            value: A number, or a NumPy or PyTorch scalar. It keeps its bits and its type. A number of another type is a
                gap; texts, pictures and arrays are no numbers, and passed over.
            step: The source's own step; `None` counts on.
            owner: The run, folder or the like that it was logged to; told apart, and not told.
        """
        at = clock.monotonic()
        try:
            if type(value) is float:
                with self._lock:
                    self._write(self._place(source, owner, name, step), value, "float64", at)
            else:
                self._tell_other(source, name, value, step, owner, at)
        except Exception as error:
            self._agent.gap("trace", _subject(name), f"{type(error).__name__}: {error}")
            pass_on(error)

    def tell_all(self, source: str, values: Any, step: Any = None, owner: str = "", prefix: str = "") -> None:
        """Tell the numbers of a dictionary; the names of nested ones are joined by dots.

        Args:
            source: Who was given it.
            values: A dictionary of names to values.
            step: As for `tell`, and so is `owner`.
            owner: As for `tell`.
            prefix: Stands before each name.
        """
        if isinstance(values, dict):
            self._tell_nested(source, values, step, owner, prefix, 0)
        else:
            self._agent.gap(
                "trace", source, f"metrics in a {type(values).__qualname__}, not a dictionary, are not read"
            )

    def _tell_nested(self, source: str, values: Any, step: Any, owner: str, prefix: str, depth: int) -> None:
        for name, value in list(dict.items(values)):
            if prefix:
                name = f"{prefix}{name if isinstance(name, (str, int)) else type(name).__name__}"
            if not isinstance(value, dict):
                self.tell(source, name, value, step, owner)
            elif depth < MOST_DEPTH:
                self._tell_nested(source, value, step, owner, f"{name}.", depth + 1)
            else:
                self._agent.gap("trace", _subject(name), f"dictionaries nested deeper than {MOST_DEPTH} are not kept")

    def _tell_other(self, source: str, name: Any, value: Any, step: Any, owner: str, at: float) -> None:
        device = _device_of(value)
        if device is None:
            exact, dtype = _number(value)
            if exact is None:
                if dtype:
                    self._agent.gap("trace", _subject(name), f"a number of type {dtype} is not read")
                return
            number = float(exact)
            if number != exact and exact == exact:
                self._agent.gap("trace", _subject(name), "a number that float64 cannot hold was rounded to it")
            with self._lock:
                self._write(self._place(source, owner, name, step), number, dtype, at)
            return
        if device == "meta" or (device == "cuda" and sys.modules["torch"].cuda.is_current_stream_capturing()):
            self._agent.gap("trace", _subject(name), f"a value on {device}, or inside a CUDA graph, is not read")
            return
        with self._lock:
            series, at_step = self._place(source, owner, name, step)
            if series is not None:
                self._on_device.append((series.name, at_step, at, _dtype(value), value.detach().clone()))
        if len(self._on_device) >= FETCH_EVERY:
            self._fetch()

    def _write(self, place: tuple[Optional[_Series], int], value: float, dtype: str, at: float) -> None:
        series, step = place
        if series is not None:
            self._agent.metric(series.name, step, value, dtype, at)

    def _place(self, source: str, owner: str, name: Any, step: Any) -> tuple[Optional[_Series], int]:
        """Return the series and step of a value, and count the step as taken; `None` beyond `MOST_SERIES`."""
        if step is not None and (type(step) is not int or not 0 <= step <= _HIGHEST_STEP):
            step = self._step(name, step)
        key = (source, owner, name)
        series = self._series.get(key)
        if series is None or (step is not None and step <= series.highest):
            series = self._begin(source, name, key)
            if series is None:
                return None, 0
        if step is None:
            step = series.highest + 1
        series.highest = step
        return series, step

    def _step(self, name: Any, step: Any) -> Optional[int]:
        """Return a step of some other type as an integer; `None` counts on, and that is a gap."""
        if _device_of(step) is None:
            number, _ = _number(step)
            if number is not None and 0 <= number <= _EXACT and number % 1 == 0:
                return int(number)
        self._agent.gap("trace", _subject(name), "a step that is no count from 0 was logged: counted on instead")
        return None

    def _begin(self, source: str, name: Any, key: tuple[str, str, str]) -> Optional[_Series]:
        if not isinstance(name, str):
            self._agent.gap("trace", _subject(name), "a name that is no text was logged: the value is not kept")
            return None
        if len(self._names) >= MOST_SERIES:
            self._agent.gap("trace", "metrics", f"more than {MOST_SERIES} series were logged; the rest is not kept")
            return None
        text = to_json(str.__str__(name))[1:-1]
        series = self._series[key] = _Series(self._free(source, text))
        return series

    def _free(self, source: str, text: str) -> str:
        """Return a name for a new series that no other has."""
        theirs = text in ("loss", "gradient_norm") or text.startswith(("learning_rate.", "optimizer."))
        if theirs or self._sources.setdefault(text, source) != source:
            text = f"{source}/{text}"
        name, number = text, self._numbers.get(text, 1)
        while name in self._names:
            number += 1
            name = f"{text}#{number}"
        self._names.add(name)
        self._numbers[text] = number
        return name

    def _fetch(self) -> None:
        """Fetch the values that wait on devices, with one wait per device and type."""
        with self._lock:
            waiting, self._on_device = self._on_device, []
        groups: dict[tuple[Any, str], list[tuple[str, int, float, str, Any]]] = {}
        for entry in waiting:
            groups.setdefault((entry[4].device, entry[3]), []).append(entry)
        for group in groups.values():
            self._agent.guard("trace", "metrics", self._fetch_group, group)

    def _fetch_group(self, group: Any) -> None:
        values = sys.modules["torch"].stack([entry[4].reshape(()) for entry in group]).tolist()
        for (name, step, at, dtype, _), value in zip(group, values):
            self._agent.metric(name, step, float(value), dtype, at)

    def _at_moment(self, moment: str) -> None:
        if moment == "end" and self._on_device:
            self._fetch()


def _number(value: Any) -> tuple[Any, str]:
    """Return a number as Python or NumPy has it, with the type it had.

    Returns:
        `None` with the type of a number that is not read; `None` with nothing for what is no single number.
    """
    if isinstance(value, float):
        return float.__float__(value), "float64"
    if isinstance(value, int):
        return int.__index__(value), "bool" if isinstance(value, bool) else "int"
    kind = type(value)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.generic, numpy.ndarray)):
        if value.size == 1 and value.dtype.kind in "biuf":
            return value.item(), _dtype(value)
        is_number = value.size == 1 and value.dtype.kind == "c"
    elif _is_tensor(value):
        is_number = value.numel() == 1
        if is_number and not value.is_complex():
            return value.detach().item(), _dtype(value)
    else:
        is_number = hasattr(kind, "__float__") or hasattr(kind, "__complex__") or kind is complex
    return None, f"{kind.__module__}.{kind.__qualname__}" if is_number else ""


def _device_of(value: Any) -> Optional[str]:
    """Return the kind of device that a single-element tensor is on; `None` for a processor, and of anything else."""
    if _is_tensor(value) and not value.is_cpu and value.numel() == 1:
        return str(value.device.type)
    return None


def _is_tensor(value: Any) -> bool:
    """Say whether a value is a plain tensor; subclasses may do anything when they are read."""
    torch = sys.modules.get("torch")
    return torch is not None and type(value) in (getattr(torch, "Tensor", None), torch.nn.Parameter)


def _dtype(value: Any) -> str:
    """Return the type of a NumPy scalar or array, or of a tensor, such as `float32`."""
    dtype = value.dtype
    name = _dtypes.get(dtype)
    if name is None:
        name = _dtypes[dtype] = str(getattr(dtype, "name", dtype)).rpartition(".")[2]
    return name


def _subject(name: Any) -> str:
    return f"metric {name}"[:200] if isinstance(name, str) else "metrics"
