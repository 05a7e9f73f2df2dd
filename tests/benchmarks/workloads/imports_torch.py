"""A script that imports PyTorch, and goes."""

import torch

print(torch.ones(1).item())
