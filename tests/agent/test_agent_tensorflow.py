"""Keras on TensorFlow: epochs and seeds are told, bits are as without the agent, what cannot be repeated is a gap."""

import json

import pytest
from event_logs import ROOT, entropy_document, of_kind
from frameworks import run_beside, series

TENSORFLOW = ROOT / "build" / "tensorflow"
"""What `requirements/tensorflow.txt` holds."""

SEEDED = """
import hashlib, json
import numpy, tensorflow, keras
keras.utils.set_random_seed(7)
tensorflow.config.experimental.enable_op_determinism()
x = numpy.linspace(0, 1, 64, dtype="float32").reshape(16, 4)
layers = [keras.layers.Dense(4, activation="relu"), keras.layers.Dropout(0.2), keras.layers.Dense(1)]
model = keras.Sequential(layers)
model.compile("adam", "mse", metrics=["mae"])
seen = model.fit(x, x.sum(1, keepdims=True), epochs=3, batch_size=4, verbose=0, validation_split=0.25).history
print(json.dumps({name: [float(value) for value in values] for name, values in seen.items()}))
print(hashlib.sha256(b"".join(each.tobytes() for each in model.get_weights())).hexdigest())
print(tensorflow.random.normal([2]).numpy())
"""
UNSEEDED = """
import sys, tensorflow
first = tensorflow.random.Generator.from_non_deterministic_state()
print(first.normal([2]).numpy().tolist(), tensorflow.random.get_global_generator().normal([1]).numpy().tolist())
tensorflow.random.set_seed(5)
print(tensorflow.random.normal([1]).numpy().tolist())
if "own" in sys.argv:
    tensorflow.random.set_seed(None)
    tensorflow.random.uniform([1])
"""


@pytest.fixture
def variables():
    """What has Keras run on TensorFlow, and TensorFlow write no times to its standard error, as it does of oneDNN."""
    if not (TENSORFLOW / "tensorflow").exists():
        pytest.skip("tensorflow: it is not installed")
    return {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}


def test_a_seeded_training(run_agent, variables, monkeypatch):
    monkeypatch.setattr("frameworks.FRAMEWORKS", TENSORFLOW)
    events, written = run_beside(run_agent, SEEDED, library="tensorflow", env=variables)
    seen = json.loads(written.splitlines()[0])
    assert {"loss", "mae", "val_loss", "val_mae"} == set(seen)
    found = series(events)
    assert {f"keras/{name}" if name == "loss" else name for name in seen} == set(found)
    for name, values in seen.items():
        assert dict(enumerate(values)) == found[f"keras/{name}" if name == "loss" else name]
    seeds = [(event["function"], event["argument"]) for event in of_kind(events, "seed")]
    assert ("tensorflow.random.set_seed", "7") in seeds
    (change,) = of_kind(events, "determinism")
    assert ("tensorflow.op_determinism", "False", "True") == (change["name"], change["before"], change["value"])
    assert change["site"].endswith("script.py:5")
    settings = {event["name"]: event["value"] for event in of_kind(events, "setting")}
    assert "True" == settings["tensorflow.op_determinism"]
    assert "0" == settings["tensorflow.intra_op_parallelism_threads"]


def test_what_is_drawn_without_a_seed(run_agent, variables):
    from event_logs import INJECT

    env = dict(variables, PYTHONPATH=f"{INJECT}:{TENSORFLOW}")
    recorded, first = run_agent(UNSEEDED, env=env)
    assert 0 == first.returncode, first.stderr
    streams = [event["stream"] for event in of_kind(recorded, "entropy") if "tensorflow" in event["stream"]]
    assert ["tensorflow.non_deterministic_ints"] * 2 == streams
    assert [] == of_kind(recorded, "gap")
    replayed, second = run_agent(UNSEEDED, env=env, entropy=entropy_document(recorded), arguments=("own",))
    assert first.stdout == second.stdout, second.stderr
    (reason,) = [gap["reason"] for gap in of_kind(replayed, "gap") if gap["subject"] == "tensorflow.random"]
    assert "script.py:9" in reason
