"""What frameworks log is in the record, exactly as they logged it; without the agent, their results are the same bits.

Each script prints its framework's own log, and a digest of the weights that it ends with.
"""

import json

import pytest
from event_logs import of_kind
from frameworks import run_beside, series, told

LIGHTNING = """
import hashlib, json, torch
from LIBRARY import LightningModule, Trainer
class Model(LightningModule):
    def __init__(self, lr=0.1, layers=(1, 2), options={"a": 1}):
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(4, 1)
        self.seen = {}
    def training_step(self, batch, index):
        loss = self.layer(batch[0]).pow(2).mean()
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        self.log("loss", loss)
        return loss
    def validation_step(self, batch, index):
        self.log("val_loss", self.layer(batch[0]).abs().mean())
    def on_train_epoch_end(self):
        self.seen[self.global_step] = self.trainer.callback_metrics["val_loss"].item().hex()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.hparams.lr)
torch.manual_seed(0)
batches = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(16, 4)), 4)
trainer = Trainer(
    max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    log_every_n_steps=2, num_sanity_val_steps=0, accelerator="cpu",
)
model = Model(lr=0.05)
trainer.fit(model, batches, batches)
weights = hashlib.sha256(model.layer.weight.detach().numpy().tobytes()).hexdigest()
last = {name: value.item().hex() for name, value in trainer.callback_metrics.items()}
from FABRIC import Fabric
fabric = Fabric(accelerator="cpu")
fabric.log("fabric_loss", torch.tensor(0.1), step=3)
fabric.log_dict({"fabric_loss": 0.25, "fabric_rate": 2}, step=4)
print(json.dumps([model.seen, last, weights]))
"""


@pytest.mark.torch
@pytest.mark.parametrize(
    ("library", "fabric"), [("lightning.pytorch", "lightning.fabric"), ("pytorch_lightning", "lightning_fabric")]
)
def test_lightning(run_agent, library, fabric):
    script = LIGHTNING.replace("LIBRARY", library).replace("FABRIC", fabric)
    events, written = run_beside(run_agent, script, library=library.partition(".")[0])
    seen, last, _ = json.loads(written.splitlines()[-1])
    found = series(events)
    assert list(range(8)) == list(found["loss"])  # what torch's hook saw of backward
    assert [1, 3, 5, 7] == list(found["train_loss_step"])
    assert {int(step) - 1: float.fromhex(value) for step, value in seen.items()} == found["val_loss"]
    assert [3, 7] == list(found["train_loss_epoch"])
    for name in ("train_loss_step", "train_loss_epoch", "val_loss"):
        assert float.fromhex(last[name]) == list(found[name].values())[-1]
    assert found["lightning/loss"] == {step: found["loss"][step] for step in (1, 3, 5, 7)}
    assert {"float32"} == {event["dtype"] for event in of_kind(events, "metric") if event["name"] == "val_loss"}
    tenth = float.fromhex("0x1.99999ap-4")  # as float32 has it
    assert ({3: tenth, 4: 0.25}, {4: 2.0}) == (found["fabric_loss"], found["fabric_rate"])
    assert {"lr": "0.05", "layers": "(1, 2)", "options.a": "1"} == told(events, "lightning")
    sites = {event["site"].rpartition("/")[2] for event in of_kind(events, "hyperparameter")}
    assert {"script.py:7"} == sites


TRANSFORMERS = """
import hashlib, json, torch
from transformers import Trainer, TrainingArguments
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
    def forward(self, x, labels=None):
        output = self.layer(x).squeeze(-1)
        return {"loss": (output - labels).pow(2).mean(), "logits": output}
torch.manual_seed(0)
data = [{"x": torch.randn(4), "labels": torch.randn(())} for _ in range(16)]
arguments = TrainingArguments(
    "out", max_steps=4, logging_steps=1, report_to=[], save_strategy="no", learning_rate=0.1, disable_tqdm=True,
    per_device_train_batch_size=4, eval_strategy="steps", eval_steps=2, use_cpu=True, hub_token="canary",
)
trainer = Trainer(Model(), arguments, train_dataset=data, eval_dataset=data)
import contextlib, io
with contextlib.redirect_stdout(io.StringIO()):
    trainer.train()
times = ("_runtime", "_per_second")
log = trainer.state.log_history
log = [{name: value for name, value in entry.items() if not name.endswith(times)} for entry in log]
print(json.dumps([log, hashlib.sha256(trainer.model.layer.weight.detach().numpy().tobytes()).hexdigest()]))
"""


@pytest.mark.torch
def test_transformers(run_agent):
    events, written = run_beside(run_agent, TRANSFORMERS, library="transformers")
    found = series(events)
    expected = {}
    for entry in json.loads(written)[0]:
        for name, value in entry.items():
            if name != "step":
                expected.setdefault(name, []).append((entry["step"], float(value)))
    for name in ("eval_loss", "grad_norm", "learning_rate", "train_loss"):
        assert expected[name] == list(found[name].items())
    assert expected["loss"] == list(found["transformers/loss"].items())
    assert [1, 2, 3, 4] == list(found["transformers/loss"])
    assert list(range(4)) == list(found["loss"])
    assert [] == [name for name in found if name.endswith(("_runtime", "_per_second"))]
    arguments = told(events, "transformers")
    names = ("learning_rate", "seed", "adam_beta1", "lr_scheduler_type", "hub_token", "accelerator_config.even_batches")
    assert ["0.1", "42", "0.9", "linear", "(hidden)", "True"] == [arguments[name] for name in names]
    assert "canary" not in str(of_kind(events, "hyperparameter"))


ACCELERATE = """
import torch
from accelerate import Accelerator
accelerator = Accelerator(cpu=True)
accelerator.log({"acc": 0.5, "note": "text", "deep": {"a": torch.tensor(0.25)}}, step=7)
accelerator.log({"acc": 0.75})
accelerator.log(values={"acc": 0.875}, step=9)
"""


@pytest.mark.torch
def test_accelerate(run_agent):
    events, _ = run_beside(run_agent, ACCELERATE, library="accelerate")
    assert {"acc": {7: 0.5, 8: 0.75, 9: 0.875}, "deep.a": {7: 0.25}} == series(events)


KERAS = """
import hashlib, json, numpy, keras
keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
model.compile("sgd", "mse", metrics=["mae"])
x, y = numpy.random.rand(16, 4), numpy.random.rand(16, 1)
history = model.fit(x, y, epochs=3, verbose=0, validation_split=0.25)
print(json.dumps([history.history, hashlib.sha256(model.get_weights()[0].tobytes()).hexdigest()]))
"""


@pytest.mark.torch
def test_keras(run_agent):
    missed = ("learning_rate",)  # its optimizers are its own, not torch's
    events, written = run_beside(run_agent, KERAS, library="keras", env={"KERAS_BACKEND": "torch"}, missed=missed)
    history, _ = json.loads(written)
    found = series(events)
    assert {"loss", "mae", "val_loss", "val_mae"} == set(history)
    for name, values in history.items():
        assert dict(enumerate(values)) == found["keras/loss" if name == "loss" else name]


XGBOOST = """
import hashlib, json, numpy, xgboost
numpy.random.seed(0)
x, y = numpy.random.rand(64, 4), numpy.random.rand(64)
data, log = xgboost.DMatrix(x, y), {}
parameters = {"max_depth": 2, "eta": 0.5, "eval_metric": ["rmse", "mae"], "seed": 3, "nthread": 1}
sets = [(data, "train"), (data, "valid")]
booster = xgboost.train(parameters, data, 5, evals=sets, evals_result=log, verbose_eval=False)
xgboost.train(parameters, data, 2, evals=sets[:1], verbose_eval=False)
folds = xgboost.cv(parameters, data, 3, nfold=2, as_pandas=False)
print(json.dumps([log, folds, hashlib.sha256(booster.save_raw("json")).hexdigest()]))
"""


def test_xgboost(run_agent):
    events, written = run_beside(run_agent, XGBOOST, library="xgboost")
    log, folds, _ = json.loads(written)
    found = series(events)
    for data, metrics in log.items():
        for metric, values in metrics.items():
            assert dict(enumerate(values)) == found[f"{data}.{metric}"]
    assert {step: value for step, value in found["train.rmse"].items() if step < 2} == found["train.rmse#2"]
    assert dict(enumerate(folds["test-rmse-mean"])) == found["test.rmse"]
    assert dict(enumerate(folds["test-rmse-std"])) == found["test.rmse.std"]
    assert told(events, "xgboost") == {
        "max_depth": "2",
        "eta": "0.5",
        "eval_metric": "['rmse', 'mae']",
        "seed": "3",
        "nthread": "1",
        "num_boost_round": "3",
    }


LIGHTGBM = """
import hashlib, json, lightgbm, numpy
numpy.random.seed(0)
x, y = numpy.random.rand(64, 4), numpy.random.rand(64)
log, parameters = {}, {"num_leaves": 3, "metric": ["l2", "l1"], "verbose": -1, "num_threads": 1, "min_data_in_leaf": 2}
data = lightgbm.Dataset(x, y, params=parameters)
watch = [lightgbm.record_evaluation(log)]
booster = lightgbm.train(parameters, data, 5, [data, data.create_valid(x, y)], ["train", "valid"], callbacks=watch)
bare = lightgbm.train(parameters, lightgbm.Dataset(x, y), 5, [lightgbm.Dataset(x, y)])
folds = lightgbm.cv(parameters, lightgbm.Dataset(x, y), 3, nfold=2, stratified=False, shuffle=False)
text = booster.model_to_string() + bare.model_to_string()
print(json.dumps([log, folds, hashlib.sha256(text.encode()).hexdigest()]))
"""


def test_lightgbm(run_agent):
    events, written = run_beside(run_agent, LIGHTGBM, library="lightgbm")
    log, folds, _ = json.loads(written)
    found = series(events)
    for data, metrics in log.items():
        for metric, values in metrics.items():
            assert dict(enumerate(values)) == found[f"{data}.{metric}"]
    assert [0, 1, 2, 3, 4] == list(found["valid_0.l2"])  # nobody asked for a callback there
    each = zip(found["valid.l2#2"].values(), found["valid.l2#3"].values())
    assert [pytest.approx(sum(pair) / 2) for pair in each] == folds["valid l2-mean"]
    assert ("3", "2", "3") == tuple(
        told(events, "lightgbm")[name] for name in ("num_leaves", "min_data_in_leaf", "num_boost_round")
    )
