"""Read every file below a folder once through PyTorch's DataLoader: load_files.py TARGET [WORKERS]."""

import os
import sys
import time

import torch
from torch.utils.data import DataLoader, Dataset

torch.set_num_threads(1)


class Files(Dataset):
    def __init__(self, root):
        self.paths = sorted(os.path.join(parent, name) for parent, _, names in os.walk(root) for name in names)

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, number):
        with open(self.paths[number], "rb") as file:
            return torch.frombuffer(bytearray(file.read()[:1024]), dtype=torch.uint8)


if __name__ == "__main__":
    started = time.perf_counter()
    loader = DataLoader(Files(sys.argv[1]), batch_size=64, num_workers=int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    total = sum(int(batch.sum()) for batch in loader)
    print(f"seconds: {time.perf_counter() - started}")
    print(f"total: {total}")
