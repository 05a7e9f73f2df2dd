"""The trivial training, told to Weights & Biases, offline."""

import wandb

from trivial import train

with wandb.init(project="trivial", mode="offline") as run:
    train(lambda name, value: run.log({name: value}))
