"""What is trained: the parameters of optimizers, and the leaves of backward passes."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def parameters_of(optimizer: Any) -> list[Any]:
    """Return an optimizer's parameters, each once, in the order of its groups."""
    found = {id(each): each for group in optimizer.param_groups for each in group["params"]}
    return list(found.values())


def places_of(optimizer: Any) -> list[str]:
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


def identity_of(tensors: list[Any]) -> tuple[Any, ...]:
    """Return what tells a list of tensors from others."""
    return tuple([(id(each), shape_of(each), each.dtype, each.device) for each in tensors])


def shape_of(tensor: Any) -> tuple[int, ...]:
    """Return the shape of what lies in this process of a tensor; that of a scalar where it is yet to be learnt."""
    local = tensor._local_tensor if type(tensor).__name__ == "DTensor" else tensor
    return () if shape_unknown(tensor) else tuple(local.shape)


def shape_unknown(tensor: Any) -> bool:
    """Return whether a lazily made module has yet to learn the shape of a tensor."""
    kind = type(tensor)
    return kind.__name__.startswith("Uninitialized") and kind.__module__ == "torch.nn.parameter"


def local_of(tensor: Any) -> Any:
    """Return the part of a distributed tensor that this process holds; any other tensor as it is."""
    return tensor._local_tensor if type(tensor).__name__ == "DTensor" else tensor
