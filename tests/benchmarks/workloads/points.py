"""Log points of one metric, one call each: points.py COUNT [TRACKER]; of ours, also seal the record and read it back.

Prints microseconds a point, of time and of processor time, and bytes a point where they lie in files. The numbers are
float32 losses that fall, with noise.
"""

import contextlib
import dataclasses
import math
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

if "TORCH_SITE" in os.environ:
    sys.path.append(os.environ["TORCH_SITE"])

COUNT = int(sys.argv[1])


def values():
    random.seed(1)
    noisy = (math.exp(-3 * step / COUNT) + random.random() / 10 for step in range(COUNT))
    return [struct.unpack("<f", struct.pack("<f", value))[0] for value in noisy]


@contextlib.contextmanager
def stage(name):
    started, cpu_started = time.perf_counter(), time.process_time()
    yield
    cpu_seconds, seconds = time.process_time() - cpu_started, time.perf_counter() - started
    print(f"{name}: {1e6 * seconds / COUNT:.3f} us\n{name} cpu: {1e6 * cpu_seconds / COUNT:.3f} us", flush=True)


def told(log, end=lambda: None):
    losses = values()
    with stage("log"):
        for step, loss in enumerate(losses):
            log(step, loss)
        end()


def below(folder):
    return sum(path.stat().st_blocks * 512 for path in Path(folder).rglob("*") if path.is_file())


def under_repro():
    """Run in a process of its own, with the agent."""
    import repro

    told(lambda step, loss: repro.log_metric("loss", loss, step=step))


def seal(events, folder):
    """Read the log, write a manifest and what its statement needs, as `repro record` does when a command has ended."""
    from repro.evidence import manifest, statement, tables
    from repro.evidence.model import Record, Run
    from repro.record import eventlog

    blank = {each.name: "" for each in dataclasses.fields(Run)}
    numbers = {"wall_seconds": 0.0, "cpu_seconds": 0.0, "peak_memory_bytes": 0, "exit_code": 0}
    run = Run(**{**blank, **numbers, "argv": (), "status": "completed"})
    with stage("seal"):
        points, _ = eventlog.read(events).points.points()
        record = statement.storable(Record(run=run, metrics=points))
        manifest.write(record, folder / "manifest.duckdb")
        tables.digests(record)
    with stage("verify"):
        read = manifest.read(folder / "manifest.duckdb")
        tables.digests(read)
    assert read.metrics == points
    assert len(points) == COUNT
    print(f"seal bytes: {(folder / 'manifest.duckdb').stat().st_size / COUNT:.1f}")


def ours():
    import repro

    inject = Path(repro.__file__).parent / "agent" / "inject"
    with tempfile.TemporaryDirectory() as folder:
        events = Path(folder, "events")
        events.mkdir()
        path = f"{inject}:{os.environ.get('PYTHONPATH', '')}"
        added = {"PYTHONPATH": path, "REPRO_EVENTS": str(events)}
        subprocess.run([sys.executable, *sys.argv, "agent"], env={**os.environ, **added}, check=True)
        print(f"log bytes: {below(events) / COUNT:.1f}")
        seal(events, Path(folder))


def under_mlflow():
    import mlflow

    with mlflow.start_run():
        told(lambda step, loss: mlflow.log_metric("loss", loss, step=step))


def under_sacred():
    from sacred import Experiment
    from sacred.observers import FileStorageObserver

    experiment = Experiment("points", save_git_info=False)
    experiment.observers.append(FileStorageObserver("sacred"))

    @experiment.main
    def main(_run):
        told(lambda step, loss: _run.log_scalar("loss", loss, step))

    experiment.run()


def under_tensorboard():
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter("tensorboard")
    told(lambda step, loss: writer.add_scalar("loss", loss, step), writer.close)


def under_wandb():
    import wandb

    run = wandb.init(project="points", mode="offline")
    told(lambda step, loss: run.log({"loss": loss}, step=step), run.finish)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        ours()
    elif sys.argv[2] == "agent":
        under_repro()
    else:
        globals()[f"under_{sys.argv[2]}"]()
        print(f"log bytes: {below('.') / COUNT:.1f}")
