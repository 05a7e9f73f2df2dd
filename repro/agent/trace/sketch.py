"""A count sketch of all parameters: 8 float64 that say how far two sets of weights are apart (docs/adr/0010, "Sketch").

Element i of all parameters, one after the other, is multiplied by -1 where bit 63 of i * 0x9E3779B97F4A7C15 is set, and
added to place i mod 8. A complex number counts as two elements. Sources: Charikar, Chen, Farach-Colton 2002; Thorup,
Zhang 2004 for the estimate of distances.
"""

from __future__ import annotations

import struct

from .fingerprint import MIX, array_of, row_major
from .splitmix import MASK, signed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .fingerprint import Word

PLACES = 8

_CHUNK = 32768
_DEVICE_CHUNK = 1 << 21
_SIGN = 1 << 63
_KINDS = {"float16": "f2", "float32": "f4", "float64": "f8", "int8": "i1", "uint8": "u1", "int32": "i4", "int64": "i8"}


def sketch_of(torch: Any, numpy: Any, tensors: list[Any]) -> list[Word]:
    """Return the sketch of plain dense tensors, 8 words with the bits of float64.

    Raises:
        TypeError: A device has no float64.
    """
    if numpy is None:
        return _sketch_of(torch, None, tensors)
    with numpy.errstate(all="ignore"):  # weights may be infinite, and the user's NumPy warn of it or raise
        return _sketch_of(torch, numpy, tensors)


def _sketch_of(torch: Any, numpy: Any, tensors: list[Any]) -> list[Word]:
    host = _HostSketch(numpy) if numpy is not None else None
    devices: dict[Any, Any] = {}
    index = 0
    for tensor in tensors:
        tensor = row_major(torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor)
        if host is not None and tensor.is_cpu:
            host.add(index, tensor.reshape(-1), torch)
        elif tensor.numel():
            total = devices.get(tensor.device)
            if total is None:
                total = devices[tensor.device] = torch.zeros(PLACES, dtype=torch.float64, device=tensor.device)
            _add_on_device(torch, total, index, tensor.reshape(-1))
        index += tensor.numel()
    if host is not None and not devices:
        return list(struct.unpack("<8Q", host.sums().tobytes()))
    total = next(iter(devices.values())) if devices else torch.zeros(PLACES, dtype=torch.float64)
    for other in list(devices.values())[1:]:
        total = total + other.to(total.device, non_blocking=True)
    if host is not None:
        # a fill for each number, since a copy from the host's ordinary memory would be waited for
        total = total + torch.stack(
            [torch.full((), float(x), dtype=torch.float64, device=total.device) for x in host.sums()]
        )
    return list(total.view(torch.int64).unbind())


class _HostSketch:
    """The sums over what lies on the processor, by NumPy, in chunks whose places in the order are multiples of 8."""

    def __init__(self, numpy: Any) -> None:
        self._numpy = numpy
        self._steps = numpy.arange(_CHUNK, dtype="u8") * numpy.uint64(MIX)
        self._signs = numpy.empty(_CHUNK, "u8")
        self._held = numpy.zeros(_CHUNK, "f8")
        self._base = self._filled = 0
        self._sums = numpy.zeros(PLACES)

    def add(self, index: int, flat: Any, torch: Any) -> None:
        """Add a flat tensor, whose first element has that index among all."""
        kind = _KINDS.get(str(flat.dtype).rpartition(".")[2])
        values = flat if kind is None else array_of(self._numpy, flat, kind, flat.numel())
        if index != self._base + self._filled:
            self._fold()
            self._base, self._filled = index - index % PLACES, index % PLACES
            self._held[: self._filled] = 0
        start = 0
        while start < len(values):
            taken = min(len(values) - start, _CHUNK - self._filled)
            part = values[start : start + taken]
            if kind is None:  # bfloat16, the 8-bit floats, bool: exact as float32
                part = array_of(self._numpy, part.to(torch.float32), "f4", taken)
            self._held[self._filled : self._filled + taken] = part
            self._filled += taken
            start += taken
            if self._filled == _CHUNK:
                self._fold()

    def sums(self) -> Any:
        self._fold()
        return self._sums

    def _fold(self) -> None:
        numpy, length = self._numpy, PLACES
        while length < self._filled:
            length *= 2
        held, signs = self._held[:length], self._signs[:length]
        held[self._filled :] = 0
        numpy.add(self._steps[:length], numpy.uint64(self._base * MIX & MASK), out=signs)
        numpy.bitwise_and(signs, numpy.uint64(_SIGN), out=signs)
        flipped = held.view("u8")
        numpy.bitwise_xor(flipped, signs, out=flipped)
        while length > PLACES:
            length //= 2
            held = numpy.add(held[:length], held[length : 2 * length], out=held[:length])
        self._sums += held[:PLACES]
        self._base += self._filled
        self._filled = 0


def _add_on_device(torch: Any, total: Any, index: int, flat: Any) -> None:
    """Add a flat tensor to the 8 sums of its device."""
    for start in range(0, flat.numel(), _DEVICE_CHUNK):
        part = flat[start : start + _DEVICE_CHUNK].to(torch.float64)
        first = index + start
        places = torch.arange(first, first + part.numel(), dtype=torch.int64, device=part.device)
        values = torch.where(places * signed(MIX) < 0, -part, part)
        before = first % PLACES
        after = -(before + part.numel()) % PLACES
        total += torch.nn.functional.pad(values, (before, after)).view(-1, PLACES).sum(0)
