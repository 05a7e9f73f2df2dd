"""Four workers that load, by the method that the command line names: each sample is drawn by chance there.

Two epochs of one loader whose workers stay, then one of a stream that its workers share out.
"""

import random
import sys

import numpy
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info


def drawn(index):
    noise = random.gauss(0, 1) + numpy.random.rand()
    return torch.randn(8) + noise, torch.tensor(index / 64)


class Samples(Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, index):
        return drawn(index)


class Stream(IterableDataset):
    def __iter__(self):
        worker = get_worker_info()
        for index in range(worker.id, 32, worker.num_workers):
            yield drawn(index)


def main(method):
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    options = {"batch_size": 8, "num_workers": 4, "multiprocessing_context": method}
    staying = DataLoader(Samples(), shuffle=True, persistent_workers=True, **options)
    for loader in (staying, staying, DataLoader(Stream(), **options)):
        for values, targets in loader:
            optimizer.zero_grad()
            loss = (model(values).squeeze(1) - targets).square().mean()
            loss.backward()
            optimizer.step()
            print(loss.item().hex(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
