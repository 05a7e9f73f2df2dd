"""The length of the gradient at traced steps, and settings of an optimizer that have changed since they were told.

`gradient_norm`, of a further optimizer `optimizer.K.gradient_norm`, is the Euclidean norm over all elements of all
gradients of its parameters, as they are when the step begins: after clipping and unscaling, of a distributed tensor
over the part that this process holds. `optimizer.K.group.G.NAME` is a number of group G, such as `momentum` or
`betas.0`, told when it is seen to differ at a traced step from what was told last; learning rates are told elsewhere,
at each step.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Optional


def gradient_norm(torch: Any, parameters: list[Any]) -> Optional[Any]:
    """Return the norm as a tensor without dimensions, on the gradients' device; `None` where it cannot be had.

    That is where there is no gradient, where gradients lie on several devices, and where one is sparse or quantised.
    """
    gradients = [_local(each.grad) for each in parameters if each.grad is not None]
    if not gradients or any(_is_unread(torch, each) for each in gradients):
        return None
    if len({(each.device, each.dtype) for each in gradients}) > 1:
        if len({each.device for each in gradients}) > 1:
            return None
        norms = [torch.linalg.vector_norm(each).to(torch.float64) for each in gradients]
    else:
        norms = torch._foreach_norm(gradients, 2.0)
    return torch.linalg.vector_norm(torch.stack(norms), 2.0)


def _local(gradient: Any) -> Any:
    return gradient._local_tensor if type(gradient).__name__ == "DTensor" else gradient


def _is_unread(torch: Any, gradient: Any) -> bool:
    if type(gradient) not in (torch.Tensor, torch.nn.Parameter) or gradient.is_meta:
        return True
    return gradient.layout is not torch.strided or not (gradient.is_floating_point() or gradient.is_complex())


class GroupSettings:
    """The numbers in an optimizer's groups, and which of them have changed.

    Args:
        anchor: The optimizer's name: `optimizer.K`.
    """

    __slots__ = ("_anchor", "_told")

    def __init__(self, anchor: str) -> None:
        self._anchor = anchor
        self._told: dict[str, float] = {}

    def changes(self, groups: list[dict[str, Any]]) -> Iterator[tuple[str, float]]:
        """Yield name and value of each number that is not what it was when this was last asked; none at first."""
        first = not self._told
        for number, group in enumerate(groups):
            for name, value in _numbers(group):
                known = f"{self._anchor}.group.{number}.{name}"
                before = self._told.get(known)
                if before != value and before == before:  # not a NaN, which is told once
                    self._told[known] = value
                    if not first:
                        yield known, value


def _numbers(group: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in group.items():
        if type(name) is not str or name in ("params", "lr"):
            continue
        if type(value) in (int, float, bool):
            yield name, float(value)
        elif type(value) in (tuple, list):
            for place, item in enumerate(value):
                if type(item) in (int, float):
                    yield f"{name}.{place}", float(item)
