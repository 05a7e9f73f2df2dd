"""Training steps so small that what is done around them shows; prints the median of a step in microseconds."""

import statistics
import time

import torch

STEPS = 20_000

torch.set_num_threads(1)
weights = torch.ones(4, requires_grad=True)
optimizer = torch.optim.SGD([weights], lr=1e-6)
times_ns = []
for _ in range(STEPS):
    started = time.perf_counter_ns()
    optimizer.zero_grad()
    (weights * weights).sum().backward()
    optimizer.step()
    times_ns.append(time.perf_counter_ns() - started)
print(f"median step: {statistics.median(times_ns) / 1e3} us")
