"""Calls of `torch.autograd.grad` as steps: those of loops that write their weights themselves.

A call counts as a step of the anchor `backward` where it asks a single number for the gradients of leaves, builds no
graph for higher ones, and the process has neither called `backward` nor stepped an optimizer. Penalties and attacks
ask for gradients too: their processes do the one or the other as well.
"""

from __future__ import annotations

from .. import disguise
from .parameters import optimizers_exist
from .steps import PATIENCE, Anchor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Optional

    from repro.agent import Agent

    from .steps import Tracer

_CREATE_GRAPH = 4
_BATCHED = 7
"""Places of arguments of `torch.autograd.grad`."""


class Gradients:
    """Gradients that are handed back, not accumulated, as steps of one process.

    Args:
        agent: Told of what fails.
        tracer: Traces the steps.
        tell_loss: Tells a loss, and returns which one it is, from 0.
        ended: Told how many steps there were, after each.
    """

    def __init__(
        self, agent: Agent, tracer: Tracer, tell_loss: Callable[[Any], Optional[int]], ended: Callable[[int], None]
    ) -> None:
        self._agent = agent
        self._tracer = tracer
        self._tell_loss = tell_loss
        self._ended = ended
        self.restart()

    def restart(self) -> None:
        """Begin anew: in a forked child."""
        self._anchor = Anchor("backward")
        self.alone = True
        """Whether nothing else has stepped."""
        self.asked = self.steps = 0
        """How often gradients were asked for, and how often that was a step."""

    def stop(self) -> None:
        """Leave it to what has stepped: `backward` or an optimizer."""
        if self.alone:
            self.alone = False
            self._tracer.leave(self._anchor)

    def watch(self, original: Any) -> Any:
        """Return what takes the place of `torch.autograd.grad`."""
        guard = self._agent.guard

        def grad(*args: Any, **kwargs: Any) -> Any:
            leaves = guard("trace", "backward", self._before, args, kwargs) if self.alone else None
            try:
                gradients = original(*args, **kwargs)
            except BaseException as error:
                error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
                raise
            if leaves is not None:
                guard("trace", "backward", self._after, leaves, gradients)
            return gradients

        return disguise(grad, original)

    def _before(self, args: Any, kwargs: Any) -> Optional[list[Any]]:
        """Tell what a step begins with; return the leaves, `None` where this call is none."""
        self.asked += 1
        loss, leaves = _loss_and_leaves(self._tracer.torch, args, kwargs)
        if loss is None or (self.asked <= PATIENCE and optimizers_exist(self._tracer.torch)):
            return None
        step = self._tell_loss(loss)
        if step is None:
            return None
        self.steps = step + 1
        if self._tracer.step_begins(self._anchor, step):
            self._tracer.timed(self._anchor.name, self._tell_inputs, leaves, step)
        return leaves

    def _tell_inputs(self, leaves: list[Any], step: int) -> None:
        tracer, anchor = self._tracer, self._anchor
        if tracer.captured(anchor):
            return
        anchor.open_step = step
        tracer.inputs(anchor, step)
        tracer.name(anchor, step, leaves, [f"leaf.{place}" for place in range(len(leaves))])
        tracer.weights(anchor, step, leaves, told=True)

    def _after(self, leaves: list[Any], gradients: Any) -> None:
        if self._anchor.open_step is not None:
            self._tracer.timed(self._anchor.name, self._tell_gradients, leaves, gradients)
        self._ended(self.steps)

    def _tell_gradients(self, leaves: list[Any], gradients: Any) -> None:
        tracer, anchor = self._tracer, self._anchor
        step, anchor.open_step = anchor.open_step, None
        if step is None or tracer.captured(anchor):
            return
        words = [None if each is None else tracer.fingerprint(each) for each in _each(gradients)]
        tracer.tell(anchor, step, "gradient", words)
        tracer.sketch(anchor, step, leaves)


def _loss_and_leaves(torch: Any, args: Any, kwargs: Any) -> tuple[Any, list[Any]]:
    """Return the loss and the leaves whose gradients are asked for; no loss where the call is no step."""
    nothing: tuple[Any, list[Any]] = None, []
    plain = (torch.Tensor, torch.nn.Parameter)
    outputs = args[0] if args else kwargs["outputs"]
    inputs = args[1] if len(args) > 1 else kwargs["inputs"]
    graph = args[_CREATE_GRAPH] if len(args) > _CREATE_GRAPH else kwargs.get("create_graph")
    batched = args[_BATCHED] if len(args) > _BATCHED else kwargs.get("is_grads_batched")
    outputs = [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
    leaves = [inputs] if isinstance(inputs, torch.Tensor) else _each(inputs)
    if graph or batched or len(outputs) != 1 or type(outputs[0]) not in plain or outputs[0].numel() != 1:
        return nothing
    if not leaves or not all(type(leaf) in plain and leaf.is_leaf and leaf.requires_grad for leaf in leaves):
        return nothing
    return outputs[0], leaves


def _each(tensors: Any) -> list[Any]:
    return list(tensors.values() if isinstance(tensors, dict) else tensors)
