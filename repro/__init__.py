"""repro: record a training run, seal what was seen, run it again, and say where it differs.

A script may tell of numbers and settings that no tracker it uses is given. While `repro record` runs it, the agent puts
its own functions in the place of these two; otherwise they do nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__version__ = "0.1.0"


def log_metric(name: str, value: Any, step: int | None = None) -> None:
    """Tell of a number, so that a replay is compared with it bit for bit.

    Args:
        name: As it will stand in the record. `loss`, `learning_rate.…` and `optimizer.…` are the recorder's own: there,
            the name is `repro/loss`.
        value: A number, or a NumPy or PyTorch scalar; it keeps its bits and its type. One on a GPU is not waited for.
        step: Counts from 0. `None` comes after the highest so far.
    """


def log_param(name: str, value: Any) -> None:
    """Tell of a value that the run was configured with.

    Args:
        name: Of the value. The names of a nested dictionary, namespace or dataclass are joined to it by dots.
        value: Kept as text, at most 500 characters; of a class that `repro` does not know, only the class is kept.
    """
