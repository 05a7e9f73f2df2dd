"""NumPy's generators. Those not seeded take their entropy from one place: `numpy.random.bit_generator.randbits`.

Stream: `numpy.randbits`, in decimal. It covers the legacy global state, `default_rng()`, `SeedSequence()` and
`np.random.seed(None)`. NumPy 2 imports `numpy.random` only when it is first used.
"""

from __future__ import annotations

from .. import disguise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

MODULES = ("numpy.random.bit_generator", "numpy.random")


def install(module: Any, agent: Agent) -> None:
    """Watch entropy as soon as the bit generators are there, and seeds once `numpy.random` is whole."""
    if module.__name__ == "numpy.random":
        _watch_seeds(module, agent)
    else:
        _watch_entropy(module, agent)


def _watch_entropy(module: Any, agent: Agent) -> None:
    original = module.randbits
    library = _folder(module)

    def randbits(k: int) -> int:
        drawn = original(k)
        kept = agent.guard("randomness", "numpy.randbits", agent.entropy, "numpy.randbits", str(drawn), library)
        return drawn if kept is None else int(kept)

    module.randbits = disguise(randbits, original)


def _watch_seeds(module: Any, agent: Agent) -> None:
    library = _folder(module)
    for name in ("seed", "default_rng"):
        _watch_seed(module, name, library, agent)
    state = module.mtrand._rand
    agent.generator("numpy.global", lambda: _digestible(state.get_state(legacy=False)))


def _watch_seed(module: Any, name: str, library: str, agent: Agent) -> None:
    function = f"numpy.random.{name}"
    # None is no seed but entropy, and an existing generator is passed through as it is
    no_seed = (type(None), module.Generator, module.BitGenerator, module.RandomState)

    def before(args: Any, kwargs: Any) -> Any:
        if args:
            return (
                None if isinstance(args[0], no_seed) else ((agent.seed(function, args[0], library), *args[1:]), kwargs)
            )
        if isinstance(kwargs.get("seed"), no_seed):
            return None
        return args, dict(kwargs, seed=agent.seed(function, kwargs["seed"], library))

    original = getattr(module, name)
    wrapper = agent.wrap(original, before, "randomness", function)
    for home in (module, module.mtrand, module._generator):
        if getattr(home, name, None) is original:
            setattr(home, name, wrapper)


def _digestible(state: Any) -> bytes:
    if state["bit_generator"] != "MT19937":
        return repr(state).encode()
    inner = state["state"]
    rest = f"{inner['pos']} {state['has_gauss']} {float(state['gauss']).hex()}"
    return bytes(inner["key"].astype("<u4").tobytes()) + rest.encode()


def _folder(module: Any) -> str:
    return str(module.__file__).rpartition("/random/")[0] + "/"
