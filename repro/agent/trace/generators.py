"""The states of the generators that a step may draw from, as fingerprints: read, never drawn from, nor waited for.

Fields: `rng.torch` (the default generator of the processor, as torch packs it), `rng.cuda.N` (seed and offset of a
device's, once CUDA is initialised), `rng.numpy` (the legacy global generator: the 624 words, the position, and the
Gaussian number kept back), `rng.python` (the module `random`, likewise).
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from .fingerprint import Fingerprints


def states(torch: Any, fingerprints: Fingerprints) -> Iterator[tuple[str, int]]:
    """Yield the field's name and the fingerprint of each generator that this process has."""
    yield "rng.torch", _of_tensor(fingerprints, torch.get_rng_state())
    if torch.cuda.is_initialized() and not torch.cuda.is_current_stream_capturing():
        for number, generator in enumerate(torch.cuda.default_generators):
            yield f"rng.cuda.{number}", _of_tensor(fingerprints, generator.get_state())
    numpy_random = sys.modules.get("numpy.random.mtrand")
    if hasattr(numpy_random, "_rand"):
        yield "rng.numpy", fingerprints.of_bytes(_numpy_state(numpy_random))
    random = sys.modules.get("random")
    if hasattr(random, "_inst"):
        yield "rng.python", fingerprints.of_bytes(_python_state(random))


def held(torch: Any) -> Iterator[tuple[str, bytes]]:
    """Yield the field's name and the state itself of each generator that this process has."""
    yield "rng.torch", torch.get_rng_state().numpy().tobytes()
    if torch.cuda.is_initialized() and not torch.cuda.is_current_stream_capturing():
        for number, generator in enumerate(torch.cuda.default_generators):
            yield f"rng.cuda.{number}", generator.get_state().numpy().tobytes()
    numpy_random = sys.modules.get("numpy.random.mtrand")
    if hasattr(numpy_random, "_rand"):
        yield "rng.numpy", _numpy_state(numpy_random)
    random = sys.modules.get("random")
    if hasattr(random, "_inst"):
        yield "rng.python", _python_state(random)


def _of_tensor(fingerprints: Fingerprints, state: Any) -> int:
    word = fingerprints.of_tensor(state)
    if not isinstance(word, int):
        raise TypeError("a generator's state is not on the processor")
    return word


def _numpy_state(module: Any) -> bytes:
    state = module._rand.get_state(legacy=False)
    if state["bit_generator"] != "MT19937":
        return repr(state).encode()
    rest = f"{state['state']['pos']} {state['has_gauss']} {float(state['gauss']).hex()}"
    return bytes(state["state"]["key"].astype("<u4").tobytes()) + rest.encode()


def _python_state(module: Any) -> bytes:
    from array import array

    _, words, kept = module._inst.getstate()
    packed = array("I", words)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes() + (b"" if kept is None else kept.hex().encode())
