"""The fingerprint of a tensor: 64 bits, the same for the same bytes, wherever they lie (docs/adr/0010).

On the processor it is made by NumPy, if the process has it; else, and on devices, by torch's arithmetic of int64. A
device's fingerprint stays there, as a tensor of int64 without dimensions, until somebody fetches it. The user's tensors
are read where they lie: `Tensor.numpy()` would do, but it marks their storage as one that can no longer be resized.
"""

from __future__ import annotations

import sys

from ..interrupts import pass_on
from .splitmix import MASK, odd_output, odd_outputs_of_numpy, odd_outputs_of_torch, shifted, signed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional, Union

    from repro.agent import Agent

    Word = Union[int, Any, None]
    """A fingerprint: an unsigned integer, a device's tensor of int64, or `None` where there is nothing to be read."""

MIX = 0x9E3779B97F4A7C15
ROW = 32768

_LENGTH = 0xD1B54A32D192ED03
_FEW = 16
_MOST_KEPT, _LONGEST_KEPT = 4096, 64
_ROWS_AT_ONCE = 64
"""Rows that a device takes in one go: 16 MiB of words, and as much again for what is made of them."""


class Fingerprints:
    """Fingerprints by the libraries of this process.

    Args:
        agent: Told of tensors that cannot be read.
        torch: The module.
    """

    def __init__(self, agent: Agent, torch: Any) -> None:
        self._agent = agent
        self._torch = torch
        self.numpy: Any = sys.modules.get("numpy") if sys.byteorder == "little" else None
        if not hasattr(self.numpy, "uint64"):
            self.numpy = None
        self._buffers: list[tuple[Any, Any]] = []
        self._weights: dict[Any, Any] = {}
        self._row_factors: list[int] = []
        self._few_weights = [odd_output(1, place) for place in range(_FEW)]
        self._texts: dict[str, int] = {}

    def of_tensor(self, tensor: Any) -> Word:
        """Return the fingerprint of a tensor; `None`, and a gap, for one whose elements cannot be read."""
        try:
            return self._of_parts(self._dense_parts(tensor))
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:160]}"
            self._agent.gap("trace", "fingerprint", f"a tensor of type {type(tensor).__name__} is not read: {reason}")
            pass_on(error)
            return None

    def of_bytes(self, data: bytes) -> int:
        """Return the fingerprint of bytes, as of a tensor of uint8."""
        if self.numpy is not None:
            return self._of_array(self.numpy.frombuffer(data, dtype="u1"))
        if not data:
            return _finish(0, 0)
        held = self._torch.frombuffer(bytearray(data), dtype=self._torch.uint8)
        return int(self._on_device(held).item()) & MASK

    def of_text(self, text: str) -> int:
        """Return the fingerprint of a text in UTF-8; short ones come again and again, and are kept."""
        known = self._texts.get(text)
        if known is not None:
            return known
        word = self.of_bytes(text.encode("utf-8", "surrogatepass"))
        if len(text) <= _LONGEST_KEPT and len(self._texts) < _MOST_KEPT:
            self._texts[text] = word
        return word

    def combined(self, words: list[Word]) -> Word:
        """Return one fingerprint for several in order: that of their 8 bytes each, little-endian, missing ones as 0."""
        device = next((word.device for word in words if word is not None and not isinstance(word, int)), None)
        if device is None and len(words) <= len(self._few_weights):
            return self._of_few([word or 0 for word in words])
        if device is None:
            return self.of_bytes(b"".join([(word or 0).to_bytes(8, "little") for word in words]))
        full, int64 = self._torch.full, self._torch.int64
        moved = [
            full((), signed(word or 0), dtype=int64, device=device)
            if word is None or isinstance(word, int)
            else word.to(device, non_blocking=True)
            for word in words
        ]
        return self._on_device(self._torch.stack(moved))

    def _of_few(self, words: list[int]) -> int:
        """Return the fingerprint of a few words, without the cost of calling NumPy."""
        total = 0
        for word, weight in zip(words, self._few_weights):
            mixed = word * MIX & MASK
            total += (mixed ^ (mixed >> 32)) * weight
        return _finish(total * self._row_factor(0), 8 * len(words))

    # what a tensor is made of

    def _dense_parts(self, tensor: Any) -> list[Any]:
        """Return the plain dense tensors that hold a tensor's elements.

        Raises:
            ValueError: It has none, or its class keeps them to itself.
        """
        torch = self._torch
        kind = type(tensor)
        if kind is not torch.Tensor and kind is not torch.nn.Parameter:
            if kind.__name__ == "DTensor" and hasattr(tensor, "_local_tensor"):
                return self._dense_parts(tensor._local_tensor)
            if kind.__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
                raise ValueError("its class keeps its elements to itself")
            tensor = tensor.as_subclass(torch.Tensor)
        if tensor.layout is torch.strided:
            if tensor.is_meta or tensor.is_quantized or tensor.is_nested or torch._is_functional_tensor(tensor):
                raise ValueError("it has no elements of its own")
            return [tensor]
        tensor = tensor.detach()
        if tensor.layout is torch.sparse_coo:
            return [tensor._indices(), tensor._values()]
        if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
            return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
        if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
            return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
        raise ValueError(f"its layout is {tensor.layout}")

    def _of_parts(self, parts: list[Any]) -> Word:
        words = [self._of_dense(part) for part in parts]
        return words[0] if len(words) == 1 else self.combined(words)

    def _of_dense(self, tensor: Any) -> Word:
        tensor = row_major(tensor)
        if not tensor.is_cpu:
            return self._on_device(tensor)
        if self.numpy is None:
            return int(self._on_device(tensor).item()) & MASK
        return self._of_array(array_of(self.numpy, tensor, "u1", tensor.numel() * tensor.element_size()))

    # by NumPy

    def _of_array(self, data: Any) -> int:
        """Return the fingerprint of an array of uint8, shape (bytes,)."""
        numpy, size = self.numpy, len(data)
        whole = size // 8 * 8
        total = self._sum_of_rows(data[:whole].view("<u8")) if whole else 0
        if size > whole:
            tail = int.from_bytes(data[whole:].tobytes(), "little") * MIX & MASK
            row, column = divmod(whole // 8, ROW)
            total += (tail ^ (tail >> 32)) * int(self._weights_of(numpy)[column]) * self._row_factor(row)
        return _finish(total, size)

    def _sum_of_rows(self, words: Any) -> int:
        numpy: Any = self.numpy
        weights, mix, half = self._weights_of(numpy), numpy.uint64(MIX), numpy.uint64(32)
        mixed, moved = self._buffers.pop() if self._buffers else (numpy.empty(ROW, "u8"), numpy.empty(ROW, "u8"))
        total = 0
        for number, start in enumerate(range(0, len(words), ROW)):
            row = words[start : start + ROW]
            length = len(row)
            y, high = mixed[:length], moved[:length]
            numpy.multiply(row, mix, out=y)
            numpy.right_shift(y, half, out=high)
            numpy.bitwise_xor(y, high, out=y)
            numpy.multiply(y, weights[:length], out=y)
            total += int(numpy.add.reduce(y)) * self._row_factor(number)
        self._buffers.append((mixed, moved))
        return total

    def _weights_of(self, numpy: Any) -> Any:
        weights = self._weights.get("numpy")
        if weights is None:
            weights = self._weights["numpy"] = odd_outputs_of_numpy(numpy, 1, ROW)
        return weights

    def _row_factor(self, row: int) -> int:
        factors = self._row_factors
        while len(factors) <= row:
            factors.append(odd_output(2, len(factors)))
        return factors[row]

    # by torch

    def _on_device(self, tensor: Any) -> Any:
        """Return the fingerprint of a dense tensor in row-major order as a tensor of int64, shape ()."""
        torch, size = self._torch, tensor.numel() * tensor.element_size()
        words = self._device_words(tensor, size)
        weights = self._device_weights(tensor.device)
        rows = words.numel() // ROW
        factors = odd_outputs_of_torch(torch, 2, rows + 1, tensor.device)
        total = torch.zeros((), dtype=torch.int64, device=tensor.device)
        for start in range(0, rows, _ROWS_AT_ONCE):
            stop = min(start + _ROWS_AT_ONCE, rows)
            sums = _mixed(words[start * ROW : stop * ROW]).view(-1, ROW).mul_(weights).sum(1)
            total += (sums * factors[start:stop]).sum()
        rest = _mixed(words[rows * ROW :])
        total += rest.mul_(weights[: rest.numel()]).sum() * factors[rows]
        total ^= shifted(total, 29)
        total = (total + signed(_LENGTH * size & MASK)) * signed(MIX)
        return total ^ shifted(total, 32)

    def _device_words(self, tensor: Any, size: int) -> Any:
        torch = self._torch
        data = tensor.reshape(-1)
        if size == 0:
            return torch.zeros(0, dtype=torch.int64, device=tensor.device)
        data = data.view(torch.uint8)
        if size % 8 or data.storage_offset() % 8:
            padded = torch.zeros(-(-size // 8) * 8, dtype=torch.uint8, device=tensor.device)
            padded[:size].copy_(data)
            data = padded
        return data.view(torch.int64)

    def _device_weights(self, device: Any) -> Any:
        weights = self._weights.get(device)
        if weights is None:
            weights = self._weights[device] = odd_outputs_of_torch(self._torch, 1, ROW, device)
        return weights


def row_major(tensor: Any) -> Any:
    """Return a dense tensor detached, its elements one after the other; copied only where they do not lie so."""
    tensor = tensor.detach()
    if tensor.is_conj() or tensor.is_neg():
        tensor = tensor.resolve_conj().resolve_neg()
    return tensor if tensor.is_contiguous() else tensor.contiguous()


def array_of(numpy: Any, tensor: Any, kind: str, length: int) -> Any:
    """Return a tensor of the processor, in row-major order, as an array of that kind and length over its memory."""
    return numpy.asarray(_Memory(tensor, kind, length)) if length else numpy.empty(0, kind)


class _Memory:
    """A tensor's memory as NumPy's array interface describes it; read only."""

    __slots__ = ("__array_interface__", "_tensor")

    def __init__(self, tensor: Any, kind: str, length: int) -> None:
        self._tensor = tensor
        self.__array_interface__ = {
            "data": (tensor.data_ptr(), True),
            "shape": (length,),
            "typestr": {"u1": "|u1"}.get(kind, "<" + kind),
            "version": 3,
        }


def _mixed(words: Any) -> Any:
    mixed = words * signed(MIX)
    return mixed.bitwise_xor_(shifted(mixed, 32))


def _finish(total: int, size_bytes: int) -> int:
    total &= MASK
    total ^= total >> 29
    total = (total + _LENGTH * size_bytes) * MIX & MASK
    return total ^ (total >> 32)


def digits(word: Optional[int]) -> str:
    """Return a fingerprint as 16 hexadecimal digits, or as 16 dashes where there is none."""
    return "-" * 16 if word is None else f"{word & MASK:016x}"
