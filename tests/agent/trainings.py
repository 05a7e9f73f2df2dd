"""Small trainings of many kinds, which print their losses: run with the agent and without it."""

import warnings

import numpy
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

nn = torch.nn
warnings.simplefilter("ignore")


class Samples(Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, index):
        return {"x": torch.randn(8) + numpy.random.rand(), "y": index / 40}


class Stream(IterableDataset):
    def __iter__(self):
        for index in range(24):
            yield torch.full((8,), index / 24), torch.rand(1)


def fit(model, optimizer, loss_of, steps=10, every=1):
    for step in range(steps):
        if step % every == 0:
            optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        if step % every == every - 1:
            optimizer.step()
        yield loss


def cnn():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(288, 4)
    )
    model = model.to(memory_format=torch.channels_last)
    return fit(
        model,
        torch.optim.SGD(model.parameters(), 0.1, momentum=0.9),
        lambda m: m(torch.randn(6, 3, 8, 8)).square().mean(),
    )


def lstm():
    model = nn.LSTM(4, 8, 2, dropout=0.2)
    return fit(
        model, torch.optim.Adam(model.parameters(), fused=True), lambda m: m(torch.randn(5, 3, 4))[0].square().mean()
    )


def transformer():
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32), 2, enable_nested_tensor=False)
    return fit(
        model,
        torch.optim.AdamW(model.parameters(), foreach=True),
        lambda m: m(torch.randn(5, 3, 16)).square().mean(),
        12,
        3,
    )


def bf16():
    model = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 1)).bfloat16()

    def loss_of(m):
        with torch.autocast("cpu", torch.bfloat16):
            return m(torch.randn(4, 8, dtype=torch.bfloat16)).float().square().mean()

    return fit(model, torch.optim.RMSprop(model.parameters(), capturable=False), loss_of)


def gan():
    g, d = nn.Linear(4, 8), nn.Linear(8, 1)
    og, od = torch.optim.Adam(g.parameters()), torch.optim.Adam(d.parameters())
    for _ in range(10):
        od.zero_grad()
        loss = d(g(torch.randn(4, 4)).detach()).mean() - d(torch.randn(4, 8)).mean()
        loss.backward()
        od.step()
        yield loss
        og.zero_grad()
        loss = -d(g(torch.randn(4, 4))).mean()
        loss.backward()
        og.step()
        yield loss


def lbfgs():
    model = nn.Linear(4, 1)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4)
    x = torch.randn(16, 4)
    for _ in range(9):

        def closure():
            optimizer.zero_grad()
            loss = (model(x) - x.sum(1, True).sin()).square().mean()
            loss.backward()
            return loss

        yield optimizer.step(closure)


def sparse():
    table = nn.Embedding(20, 4, sparse=True)
    return fit(table, torch.optim.SparseAdam(table.parameters()), lambda m: m(torch.randint(20, (6,))).square().sum())


def loaders():
    model = nn.Linear(8, 1)
    optimizer = torch.optim.SGD([{"params": [model.weight]}], lr=0.1)
    for method in ("fork", "spawn", None):
        for batch in DataLoader(
            Samples(), 8, shuffle=True, num_workers=2 if method else 0, multiprocessing_context=method
        ):
            optimizer.zero_grad()
            loss = (model(batch["x"]).squeeze(1) - batch["y"]).square().mean()
            loss.backward()
            optimizer.step()
            yield loss
        if method == "fork":
            optimizer.add_param_group({"params": [model.bias], "lr": 0.01})
    for x, y in DataLoader(Stream(), 6):
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        yield loss


def by_hand():
    weight = nn.Parameter(torch.randn(4))
    for _ in range(9):
        loss = (weight * torch.randn(4)).sum().square()
        (gradient,) = torch.autograd.grad(loss, [weight])
        with torch.no_grad():
            weight -= 0.1 * gradient
        yield loss


def compiled():
    model = nn.Linear(8, 1)
    step = torch.compile(model, backend="eager")
    return fit(model, torch.optim.SGD(model.parameters(), 0.1), lambda m: step(torch.randn(4, 8)).square().mean())


def compiled_step():
    model = nn.Linear(8, 1)
    optimizer = torch.optim.Adam(model.parameters())

    @torch.compile(backend="eager")
    def step():
        optimizer.step()

    for _ in range(10):
        optimizer.zero_grad()
        loss = model(torch.randn(4, 8)).square().mean()
        loss.backward()
        step()
        yield loss


def modes():
    torch.use_deterministic_algorithms(True)
    with torch.device("cpu"), torch.autograd.set_detect_anomaly(True):
        yield from cnn()


if __name__ == "__main__":
    for train in (cnn, lstm, transformer, bf16, gan, lbfgs, sparse, loaders, by_hand, compiled, compiled_step, modes):
        torch.manual_seed(0)
        numpy.random.seed(0)
        print(train.__name__, *[loss.item().hex() for loss in train()], torch.rand(1).item().hex())
