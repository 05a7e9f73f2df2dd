"""The trivial training, told to Sacred."""

from sacred import Experiment
from sacred.observers import FileStorageObserver

from trivial import train

experiment = Experiment("trivial", save_git_info=False)
experiment.observers.append(FileStorageObserver("sacred"))


@experiment.automain
def main(_run):
    train(lambda name, value: _run.log_scalar(name, value, 0))
