"""A model and a whole step that are compiled to machine code, with dropout inside."""

import torch

nn = torch.nn

if __name__ == "__main__":
    model = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Dropout(0.2), nn.LayerNorm(32), nn.Linear(32, 4))
    fast = torch.compile(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for step in range(16):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(fast(torch.randn(32, 16)), torch.randint(4, (32,)))
        loss.backward()
        optimizer.step()
        print(step, loss.item().hex(), flush=True)
