"""Trace the steps of anchors: an optimizer's, or, where no optimizer object ever steps, those of backward passes.

At an optimizer's step the hook calls `Tracer.before` and `Tracer.after`, at a backward pass `Backward.before` and
`Backward.after`. What is read changes nothing: no generator is drawn from, and no graph is built.
"""

from __future__ import annotations

from .. import clock
from ..interrupts import pass_on
from .batches import Batches
from .chain import Chain
from .contents import Contents, canonical_text
from .fingerprint import Fingerprints
from .generators import states
from .models import Models
from .names import Names
from .norms import GroupSettings, gradient_norm
from .parameters import identity_of, leaves_of, local_of, optimizers_exist, parameters_of, places_of, shape_of
from .schedule import Schedule
from .sketch import sketch_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Optional

    from repro.agent import Agent

    from .fingerprint import Word

FIRST = "optimizer.0"
"""The anchor whose metrics go without its name before theirs."""
PATIENCE = 64
"""Backward passes after which an optimizer that exists, but has not stepped, is taken never to step."""


class Anchor:
    """What is known of what steps.

    Args:
        name: Such as `optimizer.0`.
    """

    __slots__ = ("last_traced", "name", "open_step", "seen_batches", "settings", "tensors")

    def __init__(self, name: str) -> None:
        self.name = name
        self.tensors: tuple[Any, ...] = ()
        """What tells the parameters told last, in order, from others."""
        self.last_traced: Optional[int] = None
        self.open_step: Optional[int] = None
        """The step that has begun to be traced, and not ended."""
        self.seen_batches = 0
        self.settings = GroupSettings(name)


class Tracer:
    """Traces the steps of one process.

    Args:
        agent: Where to tell it.
        number: Tells a metric: its name, the step, and a tensor without dimensions.
    """

    def __init__(self, agent: Agent, number: Callable[[str, int, Any], None]) -> None:
        self._agent = agent
        self._number = number
        self.torch: Any = None
        self._chain = Chain(agent)
        self.batches = Batches(agent)
        self.models = Models(agent)
        self.restart()

    def restart(self) -> None:
        """Begin anew: in a forked child, which has a chain of its own."""
        self.schedule = Schedule(self._agent)
        self.batches.restart()
        self.batches.quietly = self.timed
        self._chain.restart()
        self.models.restart()
        self.steps: dict[str, int] = {}
        """Anchors to the steps that they have begun."""
        self.trained: dict[str, set[tuple[int, ...]]] = {}
        """Anchors to the shapes of their parameters."""
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
        self._names = Names(self._agent, torch)
        self.models.attach(torch, self._fingerprints)
        self._quiet = (torch.no_grad, getattr(torch._C, "DisableTorchFunction", torch.no_grad))
        self.batches.contents = self._contents

    def begin(self) -> None:
        """Take the schedule that is given: at the first step or backward pass of the process."""
        self.schedule.begin()
        self.batches.contents = self._contents if self.schedule.enabled else None

    def step_begins(self, anchor: Anchor, step: int) -> bool:
        """Be told of each step of an anchor; return whether it is traced."""
        self.steps[anchor.name] = step + 1
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
        started = clock.precise()
        try:
            no_grad, plain = self._quiet
            with no_grad(), plain():
                begun = self._device_event()
                action(*arguments)
                if begun is not None and self.schedule.measures:
                    self.schedule.spent_on_device(begun, self._device_event())
        except Exception as error:
            self._agent.gap("trace", subject, f"{type(error).__name__}: {error}")
            pass_on(error)
        self.schedule.spent += clock.precise() - started

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
        self.name(anchor, step, parameters, places_of(optimizer))
        previous = anchor.last_traced
        anchor.last_traced = step
        weights = step == 0 or previous == step - 1
        self.weights(anchor, step, parameters, told=weights)
        self.tell(anchor, step, "gradient", [self.gradient(each) for each in parameters])
        self.tell(anchor, step, "hyperparameter", [self._hyperparameters(group) for group in optimizer.param_groups])
        self._tell_numbers(anchor, step, parameters, optimizer.param_groups)

    def _tell_numbers(self, anchor: Anchor, step: int, parameters: list[Any], groups: list[dict[str, Any]]) -> None:
        norm = gradient_norm(self.torch, parameters)
        if norm is not None:
            self._number("gradient_norm" if anchor.name == FIRST else f"{anchor.name}.gradient_norm", step, norm)
        for name, value in anchor.settings.changes(groups):
            self._agent.metric(name, step, value, "float64", clock.monotonic())

    def after(self, anchor: Anchor, optimizer: Any) -> None:
        """Tell what an optimizer's traced step has led to."""
        step, anchor.open_step = anchor.open_step, None
        self.open.discard(anchor.name)
        if step is None or self.captured(anchor):
            return
        parameters = parameters_of(optimizer)
        if identity_of(parameters) != anchor.tensors:
            self._agent.gap(
                "trace", anchor.name, "parameters were added to it during a step: what the step led to is not told"
            )
            return
        self.tell(anchor, step, "parameter", [self._fingerprints.of_tensor(each) for each in parameters])
        state = [self._state(optimizer, each) for each in parameters]
        if any(word is not None for word in state):
            self.tell(anchor, step, "state", state)
        self.sketch(anchor, step, parameters)

    def weights(self, anchor: Anchor, step: int, parameters: list[Any], *, told: bool) -> None:
        """Tell what a step's model is before it: the parameters, if they are to be told, and what is not trained."""
        known: dict[int, Word] = {}
        if told:
            words = [self._fingerprints.of_tensor(each) for each in parameters]
            known = dict(zip(map(id, parameters), words))
            self.tell(anchor, step, "weight", words)
        besides = self.models.words(anchor.name, step, parameters, known)
        if besides:
            self.tell(anchor, step, "buffer", besides)

    def inputs(self, anchor: Anchor, step: int) -> None:
        """Tell what a step draws from: the order of samples, the batches, the generators' states."""
        self._flush()
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
        identity = identity_of(parameters)
        if identity == anchor.tensors:
            return
        found = self._agent.guard("trace", "parameter names", self._names.of, parameters, places)
        names, trees = found or (places, [])
        self.models.meet(anchor.name, trees)
        anchor.tensors = identity
        self.trained[anchor.name] = {tuple(shape_of(each)) for each in parameters}
        self._flush()
        self._agent.emit(
            "tensors",
            anchor=anchor.name,
            step=step,
            names=names,
            shapes=[list(shape_of(each)) for each in parameters],
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
        plain = [local_of(each) for each in parameters]
        if all(type(each) in (torch.Tensor, torch.nn.Parameter) and not each.is_meta for each in plain):
            self.tell(anchor, step, "sketch", sketch_of(torch, self._fingerprints.numpy, plain))
        else:
            self._agent.gap("trace", "sketch", f"{anchor.name} has parameters that are no plain dense tensors")

    def tell(self, anchor: Anchor, step: int, field: str, words: list[Word]) -> None:
        """Tell one field."""
        self._chain.tell(self.torch, anchor.name, step, field, words)

    def link(self) -> str:
        """Return the last link of the chain, once all that waits is told; empty where nothing was."""
        self._flush()
        return self._chain.head

    def end(self) -> None:
        """Tell what still waits on devices, and how many steps each anchor began."""
        self._flush()
        for name, count in self.steps.items():
            self._agent.emit("setting", moment="end", name=f"trace.steps.{name}", value=str(count))

    def _flush(self) -> None:
        self._chain.flush()
        self.models.flush()

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
        self.steps = 0
        """How many passes counted as steps so far."""
        self._leaves: list[Any] = []

    def stop(self) -> None:
        """Leave it to the optimizers: one has stepped."""
        self._tracer.leave(self._anchor)

    def before(self, loss: Any, step: int) -> None:
        """Tell what the backward pass of a scalar begins with, if it is a step and traced."""
        if step < PATIENCE and optimizers_exist(self._tracer.torch):
            return
        self.steps = step + 1
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
        tracer.weights(anchor, step, self._leaves, told=True)

    def _tell_gradients(self) -> None:
        tracer, anchor, leaves = self._tracer, self._anchor, self._leaves
        step, anchor.open_step, self._leaves = anchor.open_step, None, []
        if step is None or tracer.captured(anchor):
            return
        tracer.tell(anchor, step, "gradient", [tracer.gradient(leaf) for leaf in leaves])
        tracer.sketch(anchor, step, leaves)
