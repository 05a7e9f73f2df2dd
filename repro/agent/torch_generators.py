"""PyTorch's generators beside the default one: those made by the user, and the devices' own.

Streams: `torch.Generator.seed`, `torch.cuda.initial_seed.N` (each device's generator seeds itself when CUDA starts),
`torch.cuda.seed.N`, `torch.cuda.seed_all`. Seeds: `torch.Generator.manual_seed`, `torch.cuda.manual_seed`,
`torch.cuda.manual_seed_all`; what torch calls in its turn is not told again. CUDA is never started by us.
"""

from __future__ import annotations

import sys

from . import disguise
from .immutable import replace_method

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from repro.agent import Agent

_OWN = __file__.rpartition("/")[0] + "/"


def watch(torch: Any, agent: Agent) -> None:
    """Watch the generators of a torch that has just been imported."""
    generators = Generators(torch, agent)
    agent.guard("randomness", "torch.Generator", generators.watch_own)
    agent.guard("randomness", "torch.cuda", generators.watch_cuda)


class Generators:
    """What is seen of them in one process.

    Args:
        torch: The module.
        agent: Where to tell it.
    """

    def __init__(self, torch: Any, agent: Agent) -> None:
        self._torch = torch
        self._agent = agent
        self._library = torch.__file__.rpartition("/")[0] + "/"
        self._insiders = (self._library, _OWN)
        """Starts of the paths of code whose calls are not told."""

    def watch_own(self) -> None:
        """Watch `seed` and `manual_seed` of all generators.

        Raises:
            RuntimeError, KeyError: The class is not as we know it.
        """
        replace_method(self._torch._C.Generator, "manual_seed", self._manual_seed)
        replace_method(self._torch._C.Generator, "seed", self._seed)

    def watch_cuda(self) -> None:
        """Watch the devices' generators, from the moment on when CUDA starts."""
        cuda = self._torch.cuda
        for name in ("manual_seed", "manual_seed_all"):
            original = getattr(cuda, name)
            before = self._before_manual_seed(f"torch.cuda.{name}")
            self._replace(name, self._agent.wrap(original, before, "randomness", f"torch.cuda.{name}"))
        self._replace("seed", self._then(cuda.seed, self._keep_current))
        self._replace("seed_all", self._then(cuda.seed_all, self._keep_all))
        self._when_started(self._keep_initial)

    def _manual_seed(self, original: Any) -> Any:
        before = self._before_manual_seed("torch.Generator.manual_seed", position=1)
        return self._agent.wrap(original, before, "randomness", "torch.Generator.manual_seed")

    def _seed(self, original: Any) -> Any:
        def seed(*args: Any) -> int:
            try:
                drawn: int = original(*args)
            except BaseException as error:
                error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
                raise
            if sys._getframe(1).f_code.co_filename.startswith(self._insiders):
                return drawn
            kept = self._agent.guard("randomness", "torch.Generator.seed", self._keep, args[0], drawn)
            return drawn if kept is None else int(kept)

        return seed

    def _keep(self, generator: Any, drawn: int) -> str:
        def restore(recorded: str) -> None:
            generator.manual_seed(int(recorded))

        return self._agent.entropy("torch.Generator.seed", str(drawn), self._library, restore)

    def _before_manual_seed(self, function: str, position: int = 0) -> Callable[[Any, Any], Any]:
        agent, library = self._agent, self._library

        def before(args: Any, kwargs: Any) -> Any:
            if sys._getframe(2).f_code.co_filename.startswith(self._insiders):
                return None  # what torch calls in its turn, and what we put back
            if len(args) > position:
                used = agent.seed(function, args[position], library)
                return (*args[:position], used, *args[position + 1 :]), kwargs
            return (args, dict(kwargs, seed=agent.seed(function, kwargs["seed"], library))) if kwargs else None

        return before

    # devices

    def _then(self, original: Any, keep: Callable[[], None]) -> Any:
        def seed() -> None:
            original()
            self._when_started(keep)

        return disguise(seed, original)

    def _when_started(self, action: Callable[[], None]) -> None:
        """Call an action now, or in its turn among what torch has put off until CUDA starts."""
        cuda = self._torch.cuda

        def guarded() -> None:
            self._agent.guard("randomness", "torch.cuda", action)

        if cuda.is_initialized():
            guarded()
        elif hasattr(cuda, "_queued_calls"):
            cuda._queued_calls.append((guarded, []))
        else:
            self._agent.gap("randomness", "torch.cuda", "this torch puts nothing off until CUDA starts")

    def _keep_initial(self) -> None:
        for index in range(len(self._torch.cuda.default_generators)):
            self._keep_device(f"torch.cuda.initial_seed.{index}", index)

    def _keep_current(self) -> None:
        index = self._torch.cuda.current_device()
        self._keep_device(f"torch.cuda.seed.{index}", index)

    def _keep_device(self, stream: str, index: int) -> None:
        generator = self._torch.cuda.default_generators[index]

        def restore(recorded: str) -> None:
            generator.manual_seed(int(recorded))

        self._agent.entropy(stream, str(generator.initial_seed()), self._library, restore)

    def _keep_all(self) -> None:
        generators = self._torch.cuda.default_generators

        def restore(recorded: str) -> None:
            for generator in generators:
                generator.manual_seed(int(recorded))

        if generators:
            self._agent.entropy("torch.cuda.seed_all", str(generators[0].initial_seed()), self._library, restore)

    def _replace(self, name: str, wrapper: Any) -> None:
        for home in (self._torch.cuda, self._torch.cuda.random):
            setattr(home, name, wrapper)
