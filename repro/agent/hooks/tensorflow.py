"""TensorFlow: its seed, what it draws without one, and determinism of its operations.

Seeds: `tensorflow.random.set_seed`. Stream: `tensorflow.non_deterministic_ints`, in hexadecimal the bytes of what a
`Generator` without a seed starts from. An operation without any seed draws in C++, unseen: that is a gap.
Keras 3 seeds its own operations from Python's `random`; but `fit` shuffles by TensorFlow's.
"""

from __future__ import annotations

import sys

from .. import disguise
from ..callers import call_site, outside, place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

_SEEDS = "tensorflow.python.framework.random_seed"
_GENERATORS = "tensorflow.python.ops.stateful_random_ops"
_CONFIG = "tensorflow.python.framework.config"
MODULES = (_SEEDS, _GENERATORS, _CONFIG)
MOST_BYTES = 4_096
"""Of the start of a generator that are kept; real ones have 24 or fewer."""


def install(module: Any, agent: Agent) -> None:
    """Watch the part of it that was just imported, before `tensorflow` hands its functions out."""
    library = str(sys.modules["tensorflow"].__path__[0]) + "/"
    if module.__name__ == _SEEDS:
        _watch_seeds(module, agent, library)
    elif module.__name__ == _GENERATORS:
        _watch_generators(module, agent, library)
    else:
        _watch_determinism(module, agent, library)


def _watch_seeds(module: Any, agent: Agent, library: str) -> None:
    def before(args: Any, kwargs: Any) -> Any:
        seed = args[0] if args else kwargs["seed"]
        if seed is None:  # takes the seed away
            return None
        return (agent.seed("tensorflow.random.set_seed", seed, library),), {}

    module.set_seed = agent.wrap(module.set_seed, before, "randomness", "tensorflow.random.set_seed")
    original = module.get_seed

    def get_seed(op_seed: Any) -> Any:
        seeds = original(op_seed)
        if seeds[0] is None and seeds[1] is None:
            agent.guard("randomness", "tensorflow.random", unseeded)
        return seeds

    told: list[str] = []

    def unseeded() -> None:
        if not told:  # once: of a layer there may be hundreds
            told.append(_user(library))
            reason = (
                "operations without a seed drew from TensorFlow's own entropy, which can be neither read nor put back "
                f"(first for {told[0]}): they repeat once tf.random.set_seed or keras.utils.set_random_seed was called"
            )
            agent.gap("randomness", "tensorflow.random", reason)

    agent.on_fork(told.clear)
    module.get_seed = disguise(get_seed, original)


def _user(library: str) -> str:
    """Return `file:line` of who called TensorFlow, or the Keras that calls it."""
    keras = getattr(sys.modules.get("keras"), "__path__", None)
    insiders = (library, f"{keras[0]}/") if keras else (library,)
    return place(outside(sys._getframe(1), insiders))


def _watch_generators(module: Any, agent: Agent, library: str) -> None:
    original = module.non_deterministic_ints

    def non_deterministic_ints(*args: Any, **kwargs: Any) -> Any:
        drawn = original(*args, **kwargs)
        kept = agent.guard("randomness", "tensorflow.non_deterministic_ints", keep, drawn)
        return drawn if kept is None else kept

    def keep(drawn: Any) -> Any:
        if not hasattr(drawn, "numpy"):
            reason = "numbers drawn from TensorFlow's own entropy inside a graph cannot be read"
            agent.gap("randomness", "tensorflow.non_deterministic_ints", reason)
            return None
        values = drawn.numpy()
        if not 0 < values.nbytes <= MOST_BYTES:
            agent.gap("randomness", "tensorflow.non_deterministic_ints", f"{values.nbytes} bytes were not kept")
            return None
        text = values.tobytes().hex()
        kept = agent.entropy(
            "tensorflow.non_deterministic_ints", text, library, fits=lambda recorded: len(recorded) == len(text)
        )
        if kept == text:
            return None
        numpy = sys.modules["numpy"]
        recorded = numpy.frombuffer(bytes.fromhex(kept), values.dtype).reshape(values.shape)
        return sys.modules["tensorflow"].constant(recorded)

    module.non_deterministic_ints = disguise(non_deterministic_ints, original)


def _watch_determinism(module: Any, agent: Agent, library: str) -> None:
    enable, is_enabled = module.enable_op_determinism, module.is_op_determinism_enabled

    def before(args: Any, kwargs: Any) -> None:
        state = str(is_enabled())
        if state != "True":
            agent.emit(
                "determinism",
                kind="change",
                name="tensorflow.op_determinism",
                before=state,
                value="True",
                site=call_site(library),
            )

    def tell(moment: str) -> None:
        if moment == "end":
            for name, value in (("op_determinism", is_enabled()), *_threads()):
                agent.emit("setting", moment=moment, name=f"tensorflow.{name}", value=str(value))

    module.enable_op_determinism = agent.wrap(enable, before, "trace", "tensorflow.op_determinism")
    agent.on_moment(tell)


def _threads() -> tuple[tuple[str, Any], ...]:
    """Return how many threads were asked for; 0 is one for each processor. To ask TensorFlow would start it."""
    context = getattr(sys.modules.get("tensorflow.python.eager.context"), "_context", None)
    held = getattr(context, "__dict__", {})
    names = ("intra_op_parallelism_threads", "inter_op_parallelism_threads")
    return tuple((name, held.get(f"_{name}") or 0) for name in names)
