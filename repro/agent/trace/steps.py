"""Trace the steps of anchors: an optimizer's, or, where no optimizer object ever steps, those of backward passes.

At an optimizer's step the hook calls `Tracer.before` and `Tracer.after`, at a backward pass `Backward.before` and
`Backward.after`. What is read changes nothing: no generator is drawn from, and no graph is built.
"""

from __future__ import annotations

import time

from .batches import Batches
from .chain import Chain
from .contents import Contents, canonical_text
from .fingerprint import Fingerprints
from .generators import states
from .names import Names
from .schedule import Schedule
from .sketch import sketch_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Optional

    from repro.agent import Agent

    from .fingerprint import Word

_PATIENCE = 64
"""Backward passes after which an optimizer that exists, but has not stepped, is taken never to step."""


class Anchor:
    """What is known of what steps.

    Args:
        name: Such as `optimizer.0`.
    """

    __slots__ = ("last_traced", "name", "open_step", "seen_batches", "tensors")

    def __init__(self, name: str) -> None:
        self.name = name
        self.tensors: tuple[Any, ...] = ()
        """What tells the parameters told last, in order, from others."""
        self.last_traced: Optional[int] = None
        self.open_step: Optional[int] = None
        """The step that has begun to be traced, and not ended."""
        self.seen_batches = 0


class Tracer:
    """Traces the steps of one process.

    Args:
        agent: Where to tell it.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.torch: Any = None
        self._chain = Chain(agent)
        self.batches = Batches(agent)
        self.restart()

    def restart(self) -> None:
        """Begin anew: in a forked child, which has a chain of its own."""
        self.schedule = Schedule(self._agent)
        self.batches.restart()
        self.batches.quietly = self.timed
        self._chain.restart()
        self._wanting: dict[str, bool] = {}
        self.open: set[str] = set()
        """The anchors of which a traced step has begun, and not ended."""
        self.clock = ""
        """The anchor whose steps the schedule is chosen by: the first."""

    def attach(self, torch: Any) -> None:
        """Take the library; its data loaders may be imported before or after."""
        self.torch = torch
        self._fingerprints = Fingerprints(self._agent, torch)
        self._contents = Contents(torch, self._fingerprints)
        self._names = Names(torch)
        self._quiet = (torch.no_grad, getattr(torch._C, "DisableTorchFunction", torch.no_grad))
        self.batches.contents = self._contents

    def begin(self) -> None:
        """Take the schedule that is given: at the first step or backward pass of the process."""
        self.schedule.begin()
        self.batches.contents = self._contents if self.schedule.enabled else None

    def step_begins(self, anchor: Anchor, step: int) -> bool:
        """Be told of each step of an anchor; return whether it is traced."""
        schedule, batches = self.schedule, self.batches
        if not schedule.enabled or self.torch is None:
            return False
        if not self.clock:
            self.clock = anchor.name
            self._wanting.clear()
        if step <= 8 and self.clock == anchor.name:
            schedule.step_begins(step)
        self._wanting[anchor.name] = schedule.traces(step + 1)
        batches.wanted = True in self._wanting.values()
        batches.step_begins()
        if schedule.traces(step):
            return True
        anchor.seen_batches = batches.handed_out
        return False

    def leave(self, anchor: Anchor) -> None:
        """Trace an anchor no longer."""
        self._wanting.pop(anchor.name, None)
        if self.clock == anchor.name:
            self.clock = ""

    def timed(self, subject: str, action: Callable[..., None], *arguments: Any) -> None:
        """Do what reads tensors: without a graph, without the user's modes, its time counted, its errors as gaps."""
        started = time.perf_counter()
        try:
            no_grad, plain = self._quiet
            with no_grad(), plain():
                begun = self._device_event()
                action(*arguments)
                if begun is not None and self.schedule.measures:
                    self.schedule.spent_on_device(begun, self._device_event())
        except Exception as error:
            self._agent.gap("trace", subject, f"{type(error).__name__}: {error}")
        self.schedule.spent += time.perf_counter() - started

    def _device_event(self) -> Any:
        """Return an event in the device's stream, where there is one and its time is of interest; else `None`."""
        cuda = self.torch.cuda
        if not self.schedule.measures or not cuda.is_initialized() or cuda.is_current_stream_capturing():
            return None
        event = cuda.Event(enable_timing=True)
        event.record()
        return event

    def before(self, anchor: Anchor, step: int, optimizer: Any) -> None:
        """Tell what an optimizer's traced step begins with."""
        if self.captured(anchor):
            return
        anchor.open_step = step
        self.open.add(anchor.name)
        self.inputs(anchor, step)
        parameters = parameters_of(optimizer)
        self.name(anchor, step, parameters, _places_of(optimizer))
        previous = anchor.last_traced
        anchor.last_traced = step
        if step == 0 or previous == step - 1:
            self.tell(anchor, step, "weight", [self._fingerprints.of_tensor(each) for each in parameters])
        self.tell(anchor, step, "gradient", [self.gradient(each) for each in parameters])
        self.tell(anchor, step, "hyperparameter", [self._hyperparameters(group) for group in optimizer.param_groups])

    def after(self, anchor: Anchor, optimizer: Any) -> None:
        """Tell what an optimizer's traced step has led to."""
        step, anchor.open_step = anchor.open_step, None
        self.open.discard(anchor.name)
        if step is None or self.captured(anchor):
            return
        parameters = parameters_of(optimizer)
        if _identity(parameters) != anchor.tensors:
            self._agent.gap(
                "trace", anchor.name, "parameters were added to it during a step: what the step led to is not told"
            )
            return
        self.tell(anchor, step, "parameter", [self._fingerprints.of_tensor(each) for each in parameters])
        state = [self._state(optimizer, each) for each in parameters]
        if any(word is not None for word in state):
            self.tell(anchor, step, "state", state)
        self.sketch(anchor, step, parameters)

    def inputs(self, anchor: Anchor, step: int) -> None:
        """Tell what a step draws from: the order of samples, the batches, the generators' states."""
        self._chain.flush()
        order = self.batches.order()
        if order is not None:
            self.tell(anchor, step, "order", [order])
        words = self.batches.words(anchor.seen_batches)
        anchor.seen_batches = self.batches.handed_out
        if words:
            self.tell(anchor, step, "batch", words)
        for field, word in states(self.torch, self._fingerprints):
            self.tell(anchor, step, field, [word])

    def name(self, anchor: Anchor, step: int, parameters: list[Any], places: list[str]) -> None:
        """Tell the names of parameters, if they are others than before."""
        identity = _identity(parameters)
        if identity == anchor.tensors:
            return
        names = self._agent.guard("trace", "parameter names", self._names.of, parameters, places) or places
        anchor.tensors = identity
        self._chain.flush()
        self._agent.emit(
            "tensors",
            anchor=anchor.name,
            step=step,
            names=names,
            shapes=[list(_local(each).shape) for each in parameters],
            dtypes=[str(each.dtype).rpartition(".")[2] for each in parameters],
            devices=[str(each.device) for each in parameters],
        )

    def captured(self, anchor: Anchor) -> bool:
        """Return whether this is inside the capture of a CUDA graph, where nothing may be read: a gap."""
        cuda = self.torch.cuda
        if not cuda.is_initialized() or not cuda.is_current_stream_capturing():
            return False
        self._agent.gap("trace", anchor.name, "steps inside a CUDA graph are not read")
        return True

    def fingerprint(self, tensor: Any) -> Word:
        """Return the fingerprint of a tensor."""
        return self._fingerprints.of_tensor(tensor)

    def gradient(self, parameter: Any) -> Word:
        """Return the fingerprint of a parameter's gradient; `None` where it has none."""
        gradient = parameter.grad if parameter.is_leaf else None
        return None if gradient is None else self._fingerprints.of_tensor(gradient)

    def sketch(self, anchor: Anchor, step: int, parameters: list[Any]) -> None:
        """Tell the sketch of all parameters that are plain dense tensors."""
        torch = self.torch
        plain = [_local(each) for each in parameters]
        if all(type(each) in (torch.Tensor, torch.nn.Parameter) and not each.is_meta for each in plain):
            self.tell(anchor, step, "sketch", sketch_of(torch, self._fingerprints.numpy, plain))
        else:
            self._agent.gap("trace", "sketch", f"{anchor.name} has parameters that are no plain dense tensors")

    def tell(self, anchor: Anchor, step: int, field: str, words: list[Word]) -> None:
        """Tell one field."""
        self._chain.tell(self.torch, anchor.name, step, field, words)

    def end(self) -> None:
        """Tell what still waits on devices."""
        self._chain.flush()

    def _hyperparameters(self, group: dict[str, Any]) -> Word:
        """Return the fingerprint of a group's settings, in the order of their names."""
        texts, tensors = [], []
        for name in sorted(group):
            value = group[name]
            if name != "params" and isinstance(value, self.torch.Tensor):
                texts.append(f"{name}=tensor {value.dtype}")
                tensors.append(self._fingerprints.of_tensor(value))
            elif name != "params":
                texts.append(f"{name}={canonical_text(value)}")
        word = self._fingerprints.of_text("\n".join(texts))
        return self._fingerprints.combined([word, *tensors]) if tensors else word

    def _state(self, optimizer: Any, parameter: Any) -> Word:
        """Return one fingerprint for the optimizer's own values of a parameter, in the order of their names."""
        state = optimizer.state
        kept = state.get(parameter)
        if not isinstance(kept, dict) or all(value is None for value in kept.values()):
            return None
        return self._contents.word({name: kept[name] for name in sorted(kept, key=str)})


class Backward:
    """Backward passes as steps, in a process whose optimizers, if there are any, do not step.

    Args:
        tracer: Traces them.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self.restart()

    def restart(self) -> None:
        """Begin anew: in a forked child."""
        self._anchor = Anchor("backward")
        self._step = 0
        self._leaves: list[Any] = []

    def stop(self) -> None:
        """Leave it to the optimizers: one has stepped."""
        self._tracer.leave(self._anchor)

    def before(self, loss: Any, step: int) -> None:
        """Tell what the backward pass of a scalar begins with, if it is a step and traced."""
        if step < _PATIENCE and optimizers_exist(self._tracer.torch):
            return
        if self._tracer.step_begins(self._anchor, step):
            self._tracer.timed(self._anchor.name, self._tell_inputs, loss, step)

    def after(self) -> None:
        """Tell the gradients that the backward pass has made."""
        if self._anchor.open_step is not None:
            self._tracer.timed(self._anchor.name, self._tell_gradients)

    def _tell_inputs(self, loss: Any, step: int) -> None:
        tracer, anchor = self._tracer, self._anchor
        if tracer.captured(anchor):
            return
        anchor.open_step = step
        tracer.inputs(anchor, step)
        self._leaves = leaves_of(loss)
        tracer.name(anchor, step, self._leaves, [f"leaf.{place}" for place in range(len(self._leaves))])
        tracer.tell(anchor, step, "weight", [tracer.fingerprint(leaf) for leaf in self._leaves])

    def _tell_gradients(self) -> None:
        tracer, anchor, leaves = self._tracer, self._anchor, self._leaves
        step, anchor.open_step, self._leaves = anchor.open_step, None, []
        if step is None or tracer.captured(anchor):
            return
        tracer.tell(anchor, step, "gradient", [tracer.gradient(leaf) for leaf in leaves])
        tracer.sketch(anchor, step, leaves)


def parameters_of(optimizer: Any) -> list[Any]:
    """Return an optimizer's parameters, each once, in the order of its groups."""
    found = {id(each): each for group in optimizer.param_groups for each in group["params"]}
    return list(found.values())


def _places_of(optimizer: Any) -> list[str]:
    """Return what parameters are called by their place in the optimizer, such as `group.0.3`; likewise each once."""
    found: dict[int, str] = {}
    for number, group in enumerate(optimizer.param_groups):
        for place, each in enumerate(group["params"]):
            found.setdefault(id(each), f"group.{number}.{place}")
    return list(found.values())


def leaves_of(loss: Any) -> list[Any]:
    """Return the leaves that a backward pass accumulates gradients into, in the order of the graph."""
    if loss.grad_fn is None:
        return [loss]
    leaves: dict[int, Any] = {}
    waiting, seen = [loss.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if type(node).__name__ == "AccumulateGrad":
            leaves[id(node.variable)] = node.variable
        waiting += [following for following, _ in reversed(node.next_functions) if following is not None]
    return list(leaves.values())


def optimizers_exist(torch: Any) -> bool:
    """Return whether an optimizer object was ever made: the first of a class marks that class's `step`."""
    waiting = [torch.optim.Optimizer]
    while waiting:
        kind = waiting.pop()
        if getattr(kind.__dict__.get("step"), "hooked", False):
            return True
        waiting += type.__subclasses__(kind)
    return False


def _identity(tensors: list[Any]) -> tuple[Any, ...]:
    return tuple([(id(each), each.shape, each.dtype, each.device) for each in tensors])


def _local(tensor: Any) -> Any:
    """Return the part of a distributed tensor that this process holds; any other tensor as it is."""
    return tensor._local_tensor if type(tensor).__name__ == "DTensor" else tensor
