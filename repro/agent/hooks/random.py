"""Python's own generators. C code seeds them from the kernel, so their state is read just after.

Streams: `random.global` (the module's functions) and `random.Random` (instances made without a seed, such as the one
that names temporary files). A value is the Mersenne Twister's state: 625 unsigned 32-bit little-endian integers in
hexadecimal.
"""

from __future__ import annotations

import os

from .. import disguise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

MODULES = ("random",)

_VERSION = 3
"""Of `random.Random.getstate`'s result."""


def install(module: Any, agent: Agent) -> None:
    """Keep the state of the module's own generator, and watch `Random.seed`."""
    shared = module._inst
    library = module.__file__

    def keep(generator: Any) -> None:
        agent.entropy(
            "random.global" if generator is shared else "random.Random",
            pack(generator.getstate()).hex(),
            library,
            lambda text: generator.setstate(unpack(bytes.fromhex(text))),
        )

    original = module.Random.seed

    def seed(self: Any, a: Any = None, version: int = 2) -> None:
        if a is not None:
            function = "random.seed" if self is shared else "random.Random.seed"
            told = agent.guard("randomness", function, agent.seed, function, a, library)
            a = a if told is None else told
        original(self, a, version)
        if a is None:
            agent.guard("randomness", type(self).__name__, keep, self)

    module.Random.seed = disguise(seed, original)
    module.seed = shared.seed
    keep(shared)
    agent.generator("random.global", lambda: pack(shared.getstate()))
    # random has registered a reseeding of its own generator in forked children; this one is called after it
    os.register_at_fork(after_in_child=lambda: agent.guard("randomness", "random.global", keep, shared))


def pack(state: Any) -> bytes:
    """Return a state as bytes.

    Raises:
        ValueError: The generator is not the Mersenne Twister as this hook knows it.
    """
    version, words, _ = state
    if version != _VERSION:
        raise ValueError(f"version {version!r} of a generator's state is not known")
    return b"".join([word.to_bytes(4, "little") for word in words])


def unpack(data: bytes) -> Any:
    """Return the state that `pack` packed, as it is just after seeding: with no second Gaussian number kept back."""
    words = tuple(int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data), 4))
    return _VERSION, words, None
