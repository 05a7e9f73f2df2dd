"""Train in small steps, and say what a step takes: steps.py toy|cnn|transformer STEPS [TRACKER].

One thread. The loss is read in every step, as a script that logs it has to; a tracker is told it by its own ordinary
call. A tracker's environment has no PyTorch: it is taken from the folder `$TORCH_SITE`, behind the tracker's own
libraries. Prints the median step, the mean of the loop, and its processor time, in microseconds a step.
"""

import os
import statistics
import sys
import time
from pathlib import Path

if "TORCH_SITE" in os.environ:
    sys.path.append(os.environ["TORCH_SITE"])

import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)


def toy():
    weights = torch.ones(4, requires_grad=True)
    return torch.optim.SGD([weights], lr=1e-6), lambda step: (weights * weights).sum()


def cnn():
    images, labels = torch.randn(1024, 3, 16, 16), torch.randint(0, 10, (1024,))
    model = nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(32 * 16, 10)),
    )

    def loss(step):
        start = step * 32 % 1024
        return nn.functional.cross_entropy(model(images[start : start + 32]), labels[start : start + 32])

    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9), loss


def transformer():
    tokens = torch.randint(0, 1000, (64, 65))
    layer = nn.TransformerEncoderLayer(192, 4, 768, dropout=0.0, batch_first=True)
    model = nn.ModuleDict(
        {"in": nn.Embedding(1000, 192), "body": nn.TransformerEncoder(layer, 4), "out": nn.Linear(192, 1000)}
    )

    def loss(step):
        rows = tokens[step * 8 % 64 : step * 8 % 64 + 8]
        found = model["out"](model["body"](model["in"](rows[:, :-1])))
        return nn.functional.cross_entropy(found.flatten(0, 1), rows[:, 1:].flatten())

    return torch.optim.AdamW(model.parameters(), lr=1e-4), loss


def train(log):
    optimizer, loss_of = {"toy": toy, "cnn": cnn, "transformer": transformer}[sys.argv[1]]()
    count = int(sys.argv[2])
    times_ns = []
    began, cpu_began = time.perf_counter(), time.process_time()
    for step in range(count):
        started = time.perf_counter_ns()
        optimizer.zero_grad()
        loss = loss_of(step)
        loss.backward()
        optimizer.step()
        log(step, loss.item())
        times_ns.append(time.perf_counter_ns() - started)
    cpu_seconds, seconds = time.process_time() - cpu_began, time.perf_counter() - began
    print(f"median step: {statistics.median(times_ns) / 1e3:.2f} us")
    print(f"mean step: {1e6 * seconds / count:.2f} us")
    print(f"cpu step: {1e6 * cpu_seconds / count:.2f} us")
    if "REPRO_EVENTS" in os.environ:
        written = sum(path.stat().st_blocks * 512 for path in Path(os.environ["REPRO_EVENTS"]).glob(f"{os.getpid()}-*"))
        print(f"log bytes a step: {written / count:.1f}")


def under_mlflow():
    import mlflow

    with mlflow.start_run():
        train(lambda step, value: mlflow.log_metric("loss", value, step=step))


def under_sacred():
    from sacred import Experiment
    from sacred.observers import FileStorageObserver

    experiment = Experiment("steps", save_git_info=False)
    experiment.observers.append(FileStorageObserver("sacred"))

    @experiment.main
    def main(_run):
        train(lambda step, value: _run.log_scalar("loss", value, step))

    experiment.run()


def under_tensorboard():
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter("tensorboard") as writer:
        train(lambda step, value: writer.add_scalar("loss", value, step))


def under_wandb():
    import wandb

    with wandb.init(project="steps", mode="offline") as run:
        train(lambda step, value: run.log({"loss": value}, step=step))


if __name__ == "__main__":
    if len(sys.argv) > 3:
        globals()[f"under_{sys.argv[3]}"]()
    else:
        train(lambda step, value: None)
