"""Handwritten digits: the data set and its augmentation, the network, one pass over each."""

import random

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset


class Digits(Dataset[tuple[Tensor, int]]):
    """8 x 8 grey images of digits from an .npz file, shifted, faded and made noisy for training."""

    def __init__(self, path: str, augment: bool = False) -> None:
        with np.load(path) as archive:
            self.images = archive["images"]
            self.labels = archive["labels"]
        self.augment = augment

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.images[index]
        if self.augment:
            image = np.roll(image, (random.randint(-1, 1), random.randint(-1, 1)), axis=(0, 1))
            image = image + np.random.normal(0.0, 0.05, image.shape).astype(np.float32)
        tensor = torch.from_numpy(np.ascontiguousarray(image)).unsqueeze(0)
        if self.augment:
            tensor = tensor * torch.empty(1).uniform_(0.8, 1.2)
        return tensor, int(self.labels[index])


class Network(nn.Module):
    """Two convolutions with batch norm, a hidden layer with dropout, ten classes."""

    def __init__(self, dropout: float = 0.25) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(64 * 4 * 4, 128), nn.ReLU(), nn.Dropout(dropout), nn.Linear(128, 10)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))


def train_epoch(
    model: nn.Module,
    loader: DataLoader[tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
) -> float:
    """Train for one epoch, stepping the schedule at every batch, and return the mean loss."""
    model.train()
    total = 0.0
    for images, labels in loader:
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += loss.item()
    return total / len(loader)


@torch.no_grad()
def evaluate(model: nn.Module, loader: DataLoader[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """Return the mean loss and the accuracy over a loader."""
    model.eval()
    loss, correct, count = 0.0, 0, 0
    for images, labels in loader:
        logits = model(images)
        loss += functional.cross_entropy(logits, labels, reduction="sum").item()
        correct += int((logits.argmax(dim=1) == labels).sum())
        count += len(labels)
    return loss / count, correct / count
