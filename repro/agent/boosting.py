"""What libraries of boosted trees share: parameters that `train` is given, and a name for each model in training."""

from __future__ import annotations

from .hyperparameters import caller, tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent


class Owners:
    """Numbers for objects, as long as they live: models trained side by side, as folds are, are told apart."""

    def __init__(self) -> None:
        from weakref import WeakKeyDictionary

        self._numbers: Any = WeakKeyDictionary()
        self._count = 0

    def __getitem__(self, item: Any) -> str:
        number = self._numbers.get(item)
        if number is None:
            number = self._numbers[item] = str(self._count)
            self._count += 1
        return str(number)


def watch_parameters(module: Any, name: str, agent: Agent, source: str) -> None:
    """Tell of the parameters and the number of rounds that a function `train` or `cv` is called with.

    Args:
        module: What defines it, in the library's folder.
        name: Of the function: parameters come first, `num_boost_round` third.
        agent: Where to tell it.
        source: The library's name.
    """
    library = module.__file__.rpartition("/")[0] + "/"

    def before(args: Any, kwargs: Any) -> None:
        given = args[0] if args else kwargs.get("params")
        values = dict(given or {})
        rounds = args[2] if len(args) > 2 else kwargs.get("num_boost_round")
        if rounds is not None:
            values["num_boost_round"] = rounds
        tell(agent, source, values, caller(library)[0])

    setattr(module, name, agent.wrap(getattr(module, name), before, "trace", f"{source}.{name}"))
