"""NumPy's generators. Those not seeded take their entropy from one place: `numpy.random.bit_generator.randbits`.

Stream: `numpy.randbits`, in decimal. It covers the legacy global state, `default_rng()`, `SeedSequence()` and
`np.random.seed(None)`. Seeds: the functions `seed` and `default_rng`, the classes below as `numpy.random` hands them
out, and `RandomState.seed`. NumPy 2 imports `numpy.random` only when it is first used.
"""

from __future__ import annotations

import sys
from _thread import get_ident

from .. import disguise
from ..immutable import replace_method, stand_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from repro.agent import Agent

MODULES = ("numpy.random.bit_generator", "numpy.random")

_CLASSES = ("RandomState", "SeedSequence", "MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
_GENERATORS = ("Generator", "BitGenerator", "RandomState", "SeedSequence")

_seeding: set[int] = set()
"""Threads that make a `RandomState` of a seed. It draws entropy too, which the seed writes over: a forest's threads,
which take their trees in any order, make one for each."""


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
        if get_ident() in _seeding:
            return int(drawn)
        kept = agent.guard("randomness", "numpy.randbits", agent.entropy, "numpy.randbits", str(drawn), library)
        return drawn if kept is None else int(kept)

    module.randbits = disguise(randbits, original)


def _watch_seeds(module: Any, agent: Agent) -> None:
    library = _folder(module)
    for name in ("seed", "default_rng"):
        _watch_function(module, name, agent, _before(module, name, library, agent))
    state = module.mtrand._rand
    agent.generator("numpy.global", lambda: _digestible(state.get_state(legacy=False)))
    for name in _CLASSES:
        if hasattr(module, name):  # PCG64DXSM is there from NumPy 1.21 on
            agent.guard("randomness", f"numpy.random.{name}", _watch_class, module, name, library, agent)
    agent.guard("randomness", "numpy.random.RandomState.seed", _watch_reseeding, module, library, agent)


def _watch_function(module: Any, name: str, agent: Agent, before: Any) -> None:
    original = getattr(module, name)
    wrapper = agent.wrap(original, before, "randomness", f"numpy.random.{name}")
    for home in (module, module.mtrand, module._generator):
        if getattr(home, name, None) is original:
            setattr(home, name, wrapper)


def _watch_class(module: Any, name: str, library: str, agent: Agent) -> None:
    keyword = "entropy" if name == "SeedSequence" else "seed"
    before = _before(module, name, library, agent, keyword)

    def guarded(args: Any, kwargs: Any) -> Any:
        changed = agent.guard("randomness", f"numpy.random.{name}", before, args, kwargs)
        if changed is not None and name == "RandomState":
            _seeding.add(get_ident())
        return (args, kwargs) if changed is None else changed

    def made() -> None:
        _seeding.discard(get_ident())

    setattr(module, name, stand_in(getattr(module, name), module.__name__, guarded, made))


def _watch_reseeding(module: Any, library: str, agent: Agent) -> None:
    tell = _before(module, "RandomState.seed", library, agent, position=1)

    def before(args: Any, kwargs: Any) -> Any:
        by_us = "repro agent" in sys._getframe(2).f_code.co_filename  # numpy.random.seed, which has been told of
        return None if by_us else tell(args, kwargs)

    def make(original: Any) -> Any:
        return agent.wrap(original, before, "randomness", "numpy.random.RandomState.seed")

    replace_method(module.mtrand.RandomState, "seed", make)


def _before(
    module: Any, name: str, library: str, agent: Agent, keyword: str = "seed", position: int = 0
) -> Callable[[Any, Any], Any]:
    """Return what tells of a call's seed and puts the recorded one in its arguments.

    Args:
        module: `numpy.random`.
        name: What is called, below it.
        library: See `Randomness.seed`.
        agent: Where to tell it.
        keyword: The seed's name among the arguments.
        position: Its place among them.
    """
    # None is no seed but entropy, and an existing generator is passed through as it is
    no_seed = (type(None), *(getattr(module, kind) for kind in _GENERATORS))
    function = f"numpy.random.{name}"

    def before(args: Any, kwargs: Any) -> Any:
        if len(args) > position:
            if isinstance(args[position], no_seed):
                return None
            return (*args[:position], agent.seed(function, args[position], library), *args[position + 1 :]), kwargs
        if isinstance(kwargs.get(keyword), no_seed):
            return None
        return args, {**kwargs, keyword: agent.seed(function, kwargs[keyword], library)}

    return before


def _digestible(state: Any) -> bytes:
    if state["bit_generator"] != "MT19937":
        return repr(state).encode()
    inner = state["state"]
    rest = f"{inner['pos']} {state['has_gauss']} {float(state['gauss']).hex()}"
    return bytes(inner["key"].astype("<u4").tobytes()) + rest.encode()


def _folder(module: Any) -> str:
    return str(module.__file__).rpartition("/random/")[0] + "/"
