"""Images: a network with batch normalisation, dropout and augmentation; bfloat16 under autocast; scaled gradients."""

import random

import numpy
import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset

nn = torch.nn


class Augmented(Dataset):
    def __init__(self):
        images, labels = load_digits(return_X_y=True)
        self.images = torch.tensor(images[:320], dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
        self.labels = torch.tensor(labels[:320])

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        image = self.images[index].roll(random.randint(-1, 1), 2)
        if torch.rand(()) < 0.5:
            image = image.flip(2)
        return image + numpy.random.normal(0, 0.05, image.shape).astype("float32"), self.labels[index]


def network():
    layers = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(288, 10)
    return nn.Sequential(*layers)


def cnn(data):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    for images, labels in DataLoader(data, batch_size=32, shuffle=True):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        yield loss
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, "cnn.pt")


def bf16(data):
    model = network()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=0.001)
    for images, labels in DataLoader(data, batch_size=32, shuffle=True):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        yield loss


def scaled(data):
    """Half precision, whose gradients are scaled; the scale is too high at first, so that steps are skipped."""
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**19, growth_interval=4)
    for images, labels in DataLoader(data, batch_size=32, shuffle=True):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.float16):
            loss = nn.functional.cross_entropy(model(images), labels)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        yield loss + scaler.get_scale()


if __name__ == "__main__":
    for kind in (cnn, bf16, scaled):
        print(kind.__name__, *[loss.item().hex() for loss in kind(Augmented())], flush=True)
