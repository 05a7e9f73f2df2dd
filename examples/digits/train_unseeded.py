"""A quick experiment on handwritten digits: random hyperparameters, random split, a new folder for each run."""

import argparse
import json
import os
import random
import uuid

import numpy as np
import torch
from torch.utils.data import DataLoader, Subset

from digits import Digits, Network, evaluate, train_epoch


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="data", help="folder with train.npz and test.npz")
    parser.add_argument("--out", default="runs", help="folder in which the run makes its own")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2, help="processes that load data")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    folder = os.path.join(args.out, uuid.uuid4().hex)
    os.makedirs(folder)

    settings = {
        "lr": 10 ** random.uniform(-2.3, -1.6),
        "dropout": random.choice([0.1, 0.25, 0.4]),
        "batch_size": random.choice([24, 32, 48]),
    }
    print(f"{folder}: {settings}")

    images = Digits(os.path.join(args.data, "train.npz"), augment=True)
    kept = np.random.default_rng().permutation(len(images))[: len(images) * 9 // 10]
    train_loader = DataLoader(
        Subset(images, kept.tolist()),
        batch_size=settings["batch_size"],
        shuffle=True,
        num_workers=args.workers,
        persistent_workers=args.workers > 0,
    )
    test_loader = DataLoader(Digits(os.path.join(args.data, "test.npz")), batch_size=256)

    model = Network(settings["dropout"])
    optimizer = torch.optim.SGD(model.parameters(), lr=settings["lr"], momentum=0.9, nesterov=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs * len(train_loader))

    accuracy = 0.0
    for epoch in range(args.epochs):
        train_loss = train_epoch(model, train_loader, optimizer, scheduler)
        test_loss, accuracy = evaluate(model, test_loader)
        print(f"epoch {epoch + 1:3d}  train loss {train_loss:.4f}  test loss {test_loss:.4f}  accuracy {accuracy:.2%}")

    torch.save(model.state_dict(), os.path.join(folder, "model.pt"))
    with open(os.path.join(folder, "metrics.json"), "w") as file:
        json.dump({"settings": settings, "accuracy": accuracy}, file, indent=2)


if __name__ == "__main__":
    main()
