"""Train a small convolutional network on handwritten digits."""

import argparse
import json
import os
import random

import numpy as np
import torch
from torch.utils.data import DataLoader

from digits import Digits, Network, evaluate, train_epoch


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="data", help="folder with train.npz and test.npz")
    parser.add_argument("--out", default="runs/train", help="folder for the checkpoint and the metrics")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.03, help="peak learning rate")
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--weight-decay", type=float, default=5e-4)
    parser.add_argument("--dropout", type=float, default=0.25)
    parser.add_argument("--workers", type=int, default=2, help="processes that load data")
    parser.add_argument("--seed", type=int, default=42)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    train_loader = DataLoader(
        Digits(os.path.join(args.data, "train.npz"), augment=True),
        batch_size=args.batch_size,
        shuffle=True,
        num_workers=args.workers,
        persistent_workers=args.workers > 0,
    )
    test_loader = DataLoader(Digits(os.path.join(args.data, "test.npz")), batch_size=256)

    model = Network(args.dropout)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=args.momentum, weight_decay=args.weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=args.lr, epochs=args.epochs, steps_per_epoch=len(train_loader)
    )

    os.makedirs(args.out, exist_ok=True)
    best, history = None, []
    for epoch in range(args.epochs):
        train_loss = train_epoch(model, train_loader, optimizer, scheduler)
        test_loss, accuracy = evaluate(model, test_loader)
        print(f"epoch {epoch + 1:3d}  train loss {train_loss:.4f}  test loss {test_loss:.4f}  accuracy {accuracy:.2%}")
        history.append({"epoch": epoch + 1, "train_loss": train_loss, "test_loss": test_loss, "accuracy": accuracy})
        if best is None or accuracy > best["accuracy"]:
            best = history[-1]
            torch.save({"epoch": epoch + 1, "model": model.state_dict()}, os.path.join(args.out, "best.pt"))

    with open(os.path.join(args.out, "metrics.json"), "w") as file:
        json.dump({"best": best, "history": history}, file, indent=2)
    print(f"best accuracy {best['accuracy']:.2%} in epoch {best['epoch']}")


if __name__ == "__main__":
    main()
