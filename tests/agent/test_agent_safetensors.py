"""Files of safetensors: what is written, what is read whole, and what is opened to be read piece by piece."""

import json
import struct

import pytest
from event_logs import of_kind
from frameworks import run_beside
from test_agent_checkpoints import by_name, told

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

WITH_TORCH = """
import os, torch, safetensors
from safetensors import safe_open
from safetensors.torch import load, load_file, save, save_file, save_model
model = torch.nn.Linear(3, 2)
tensors = {"weight": model.weight.detach(), "bias": model.bias.detach(), "half": torch.ones(3, dtype=torch.bfloat16)}
torch.save(tensors, "same.pt")
save_file(tensors, "file.safetensors", metadata={"format": "pt"})
save_model(model, "model.safetensors")
open("bytes.safetensors", "wb").write(save(tensors))
assert torch.equal(load_file("file.safetensors")["weight"], model.weight)
os.utime("file.safetensors", ns=(1, 1))
with safe_open("file.safetensors", framework="pt") as file:
    print(sorted(file.keys()), file.get_slice("weight")[:1].shape, file.metadata())
with safetensors.safe_open("file.safetensors", "pt") as file:
    assert file.get_tensor("half").dtype is torch.bfloat16
load(open("bytes.safetensors", "rb").read())
try:
    safe_open("missing.safetensors", "pt")
except FileNotFoundError as error:
    print(type(error).__name__)
"""

WITH_NUMPY = """
import sys
import numpy
from safetensors.numpy import load_file, save_file
save_file({"a": numpy.arange(6, dtype="<f4").reshape(2, 3)}, "file.safetensors")
print(load_file("file.safetensors")["a"].sum(), "torch" in sys.modules)
"""


def test_all_formats_of_one_model_hold_the_same(run_agent, tmp_path):
    events, _ = run_beside(run_agent, WITH_TORCH, library="safetensors", missed=())
    rows = told(events)
    place = f"{tmp_path}/"
    assert [
        ("written", place + "same.pt", "torch"),
        ("written", place + "file.safetensors", "safetensors"),
        ("written", place + "model.safetensors", "safetensors"),
        ("written", "", "safetensors"),
        ("read", place + "file.safetensors", "safetensors"),
        ("read", place + "file.safetensors", "safetensors"),
        ("read", "", "safetensors"),
    ] == [(each["action"], each["path"], each["library"]) for each in rows]
    torch, file, model, content, read, opened, from_bytes = map(by_name, rows)
    assert torch == file == content == read == opened == from_bytes
    assert {"weight", "bias"} == set(model)
    assert rows[3]["sha256"] is not None, "the recorder finds the file by it"


def test_arrays_need_no_torch(run_agent, tmp_path):
    events, out = run_beside(run_agent, WITH_NUMPY, library="safetensors", missed=())
    assert "15.0 False\n" == out
    written, read = told(events)
    assert {"a": ([2, 3], "float32")} == {name: row[:2] for name, row in by_name(written).items()}
    assert by_name(written) == by_name(read)
    assert {} == written["steps"] == written["state"]


def test_a_file_that_is_none_is_told_as_opened_alone(run_agent, tmp_path):
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 800]}}).encode()
    (tmp_path / "cut.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
    script = "from safetensors import safe_open, SafetensorError\n"
    script += "try:\n    safe_open('cut.safetensors', 'np')\nexcept SafetensorError:\n    print('refused')\n"
    events, out = run_beside(run_agent, script, library="safetensors", missed=("checkpoint",))
    assert "refused\n" == out
    assert [] == told(events)
    assert any(each["path"].endswith("cut.safetensors") for each in of_kind(events, "open"))
