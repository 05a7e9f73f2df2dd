"""Fingerprints, sketches, schedules and contents as docs/adr/0010 defines them: the same by NumPy and by torch."""

import random
import struct

import pytest

torch = pytest.importorskip("torch")
numpy = pytest.importorskip("numpy")

from repro.agent.trace.contents import Contents, leaves  # noqa: E402
from repro.agent.trace.fingerprint import Fingerprints  # noqa: E402
from repro.agent.trace.schedule import Schedule, smallest_every  # noqa: E402
from repro.agent.trace.sketch import sketch_of  # noqa: E402
from repro.agent.trace.splitmix import (  # noqa: E402
    odd_output,
    odd_outputs_of_numpy,
    odd_outputs_of_torch,
)

pytestmark = pytest.mark.torch

MASK = (1 << 64) - 1
MIX = 0x9E3779B97F4A7C15


class Gaps(list):
    """Stands for the agent: keeps the gaps that it is told."""

    def gap(self, topic, subject, reason):
        self.append((topic, subject, reason))


@pytest.fixture
def gaps():
    return Gaps()


@pytest.fixture(params=["numpy", "torch"])
def fingerprints(request, gaps):
    made = Fingerprints(gaps, torch)
    if request.param == "torch":
        made.numpy = None
    return made


def splitmix(seed):
    """SplitMix64 as its authors wrote it."""
    while True:
        seed = (seed + MIX) & MASK
        z = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        yield z ^ (z >> 31)


def first(seed, count):
    outputs = splitmix(seed)
    return [next(outputs) | 1 for _ in range(count)]


WEIGHTS, ROWS = first(1, 32768), first(2, 8)


def reference(data):
    """The definition, word by word."""
    padded = data + b"\0" * (-len(data) % 8)
    total = 0
    for place, (x,) in enumerate(struct.iter_unpack("<Q", padded)):
        y = x * MIX & MASK
        total += (y ^ (y >> 32)) * WEIGHTS[place % 32768] * ROWS[place // 32768]
    f = total & MASK
    f ^= f >> 29
    f = (f + 0xD1B54A32D192ED03 * len(data)) * MIX & MASK
    return f ^ (f >> 32)


def bytes_of(tensor):
    """The elements in row-major order, by torch's own conversion of the whole."""
    flat = torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor).reshape(-1)
    return bytes(flat.view(torch.uint8).tolist())


def test_multipliers_are_splitmix64():
    assert WEIGHTS[:100] == [odd_output(1, place) for place in range(100)]
    assert WEIGHTS == odd_outputs_of_numpy(numpy, 1, 32768).tolist()
    assert WEIGHTS == [word & MASK for word in odd_outputs_of_torch(torch, 1, 32768, "cpu").tolist()]


def tensors():
    torch.manual_seed(0)
    base = torch.randn(6, 5, 4, 3)
    special = torch.tensor([float("nan"), -0.0, 0.0, float("inf"), -float("inf")])
    payload = torch.tensor([0x7FC00001, 0x7F800001, -1], dtype=torch.int32).view(torch.float32)
    yield "empty", torch.empty(0)
    yield "no dimensions", torch.tensor(1.5)
    yield "not contiguous", base.transpose(0, 3)
    yield "channels last", base.contiguous(memory_format=torch.channels_last)
    yield "expanded", torch.randn(1, 7).expand(3, 7)
    yield "offset by an odd number of elements", torch.randn(100)[3:]
    yield "special", special
    yield "payloads", payload
    yield "complex", torch.randn(9, dtype=torch.complex64)
    yield "conjugate", torch.randn(9, dtype=torch.complex64).conj()
    yield "parameter", torch.nn.Parameter(torch.randn(4, 4))
    yield "longer than a row", torch.randn(70001)
    yield "a row", torch.randn(65536)
    yield "many rows and an odd end", torch.randint(0, 256, (3 * 262144 + 5,), dtype=torch.uint8)
    for dtype in (torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.int8, torch.uint8, torch.bool):
        yield str(dtype), (torch.randn(1001) * 50).to(dtype)
    if hasattr(torch, "float8_e4m3fn"):
        yield "float8", torch.randn(13).to(torch.float8_e4m3fn)


@pytest.mark.parametrize(("name", "tensor"), list(tensors()), ids=lambda part: part if isinstance(part, str) else "")
def test_a_fingerprint_is_what_the_definition_says(fingerprints, gaps, name, tensor):
    data = bytes_of(tensor.detach()) if tensor.numel() else b""
    assert (reference(data), []) == (fingerprints.of_tensor(tensor), gaps)
    assert reference(data) == fingerprints.of_bytes(data)


def test_fingerprints_tell_what_a_sum_would_not(fingerprints):
    base = torch.randn(4096)
    seen = {fingerprints.of_tensor(base)}
    generator = random.Random(0)
    for _ in range(100):
        changed = base.clone()
        for place in generator.sample(range(4096), 2):
            changed[place] = -changed[place]  # two flipped signs
        seen.add(fingerprints.of_tensor(changed))
    seen.add(fingerprints.of_tensor(base.flip(0)))
    seen.add(fingerprints.of_tensor(torch.cat([base, torch.zeros(1)])))
    assert 103 == len(seen)
    assert fingerprints.of_tensor(torch.tensor([0.0])) != fingerprints.of_tensor(torch.tensor([-0.0]))


@pytest.mark.filterwarnings("ignore")
def test_sparse_tensors_are_their_indices_and_values(fingerprints, gaps):
    dense = torch.tensor([[0.0, 2.0, 0.0], [3.0, 0.0, 0.0]])
    words = {fingerprints.of_tensor(each) for each in (dense.to_sparse(), dense.to_sparse_csr(), dense.to_sparse_csc())}
    words |= {fingerprints.of_tensor(each) for each in ((dense * 2).to_sparse(), dense.t().to_sparse())}
    words.add(fingerprints.of_tensor(torch.sparse_coo_tensor([[0, 0], [1, 1]], [1.0, 1.0], (2, 3))))
    assert 6 == len(words)
    assert [] == gaps


class Plain(torch.Tensor):
    """A subclass that keeps its elements where any tensor does."""


@pytest.mark.filterwarnings("ignore")
def test_what_has_no_elements_is_a_gap_and_a_plain_subclass_is_read(fingerprints, gaps):
    from torch._subclasses.fake_tensor import FakeTensorMode

    weight = torch.randn(5)
    assert fingerprints.of_tensor(weight) == fingerprints.of_tensor(weight.as_subclass(Plain))
    assert [] == gaps
    with FakeTensorMode():
        fake = torch.zeros(3)
    quantized = torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8)
    unread = [fake, torch.zeros(3, device="meta"), quantized, torch.nested.nested_tensor([weight, weight])]
    assert [None] * 4 == [fingerprints.of_tensor(each) for each in unread]
    assert {("trace", "fingerprint")} == {gap[:2] for gap in gaps}


def test_reading_leaves_a_tensor_as_it_was(fingerprints):
    parameter = torch.nn.Parameter(torch.randn(8))
    version = parameter._version
    fingerprints.of_tensor(parameter)
    assert (version, True, None) == (parameter._version, parameter.requires_grad, parameter.grad_fn)
    parameter.untyped_storage().resize_(0)  # as sharding does, and as no tensor that was lent to NumPy allows


def test_words_are_combined_as_their_bytes(fingerprints):
    words = [random.Random(place).getrandbits(64) for place in range(40)]
    for count in (1, 2, 16, 17, 40):
        assert reference(struct.pack(f"<{count}Q", *words[:count])) == fingerprints.combined(words[:count])
        on_device = [torch.tensor(word - (1 << 64) if word >> 63 else word) for word in words[:count]]
        assert reference(struct.pack(f"<{count}Q", *words[:count])) == int(fingerprints.combined(on_device)) & MASK


def sketch_by_definition(tensors):
    sums, index = [0.0] * 8, 0
    for tensor in tensors:
        for value in tensor.reshape(-1).tolist():
            sums[index % 8] += -value if (index * MIX & MASK) >> 63 else value
            index += 1
    return sums


@pytest.mark.parametrize("by", ["numpy", "torch"])
def test_a_sketch_is_what_the_definition_says(by):
    torch.manual_seed(1)
    tensors = [torch.randn(13), torch.randn(3, 5).t(), torch.randn(40003), torch.empty(0), torch.randn(9).bfloat16()]
    words = sketch_of(torch, numpy if by == "numpy" else None, tensors)
    sums = [struct.unpack("<d", struct.pack("<Q", int(word) & MASK))[0] for word in words]
    assert sketch_by_definition(tensors) == pytest.approx(sums, rel=1e-12)


def test_a_sketch_estimates_distances():
    torch.manual_seed(2)
    weights = [torch.randn(20000), torch.randn(300, 30)]
    ratios = []
    for seed in range(20):
        torch.manual_seed(seed)
        noise = [torch.randn_like(each) * 1e-3 for each in weights]
        a, b = (sketch_of(torch, numpy, each) for each in (weights, [w + n for w, n in zip(weights, noise)]))
        unpack = [struct.unpack("<8d", struct.pack("<8Q", *words)) for words in (a, b)]
        estimate = sum((x - y) ** 2 for x, y in zip(*unpack))
        ratios.append(estimate / sum(float((each.double() ** 2).sum()) for each in noise))
    assert 0.5 < sum(ratios) / len(ratios) < 1.6


@pytest.mark.parametrize(
    ("cost", "step", "every"),
    [(0.0, 0.1, 8), (0.008, 0.1, 8), (0.0081, 0.1, 16), (0.1, 0.1, 128), (1.0, 0.0, 1 << 30)],
)
def test_the_schedule_keeps_to_its_budget(cost, step, every):
    assert every == smallest_every(cost, step, 0.01)


class Event:
    """Stands for an event in a device's stream, at a time in milliseconds; `None`: not reached yet."""

    def __init__(self, at):
        self.at = at

    def query(self):
        return self.at is not None

    def elapsed_time(self, other):
        return other.at - self.at


def test_the_schedule_counts_what_a_device_does(gaps):
    gaps.settings, told = {}, []
    gaps.emit = lambda event, **fields: told.append((fields["name"], fields["value"]))
    schedule = Schedule(gaps)
    schedule.begin()
    for step in range(9):
        assert schedule.measures == (step > 0)
        schedule.step_begins(step)
        if step < 6:  # of each 100 ms, 25 go to the trace; the device has not reached the last steps
            schedule.spent_on_device(Event(step * 100), Event(step * 100 + 25))
        elif step < 8:
            schedule.spent_on_device(Event(None), Event(None))
    assert [("trace.every", "128"), ("trace.budget", "0.005")] == told  # 25 of 75 ms: a third; 66.7 times the budget
    assert not schedule.measures


def test_contents_tell_structures_apart(gaps):
    from collections import OrderedDict, namedtuple
    from dataclasses import dataclass

    @dataclass
    class Batch:
        x: object
        y: object

    pair = namedtuple("pair", "x y")
    x, y = torch.ones(2, 3), torch.zeros(2)
    contents = Contents(torch, Fingerprints(gaps, torch))
    same = [(x, y), [x, y], pair(x, y), Batch(x, y)]
    assert 1 == len({contents.word(each) for each in same})
    others = [
        *[
            {"x": x, "y": y},
            OrderedDict(x=y, y=x),
            (y, x),
            (x.double(), y),
            (x.view(3, 2), y),
            (x, y, None),
            (x, y, "a"),
        ],
        *[(x, y, 1), (x, y, 1.0), (x.numpy(), y), (x, numpy.float32(0)), (x, [y, {"deep": (1, b"2")}]), {"a", "b"}, 1j],
        *[numpy.array(["a", None], dtype=object), numpy.array("2020", dtype="M8[D]"), float("nan"), -0.0, 0.0],
    ]
    assert len(others) + 1 == len({contents.word(each) for each in [*same[:1], *others]})
    assert ["x", 1, "y", 2, 3] == list(leaves({"x": 1, "y": (2, [3])}))
    assert contents.word(object()) == contents.word(object())
    assert [] == gaps
