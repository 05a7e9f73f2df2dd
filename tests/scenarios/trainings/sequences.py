"""Sequences: a transformer with warm-up and clipped gradients, an LSTM, a table with sparse gradients."""

import torch

nn = torch.nn
WORDS, LENGTH = 40, 12


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm, self.mix, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(0.1), nn.Linear(4 * width, width)
        )

    def forward(self, x):
        shape = (*x.shape[:2], self.heads, -1)
        q, k, v = (each.reshape(shape).transpose(1, 2) for each in self.mix(self.norm(x)).chunk(3, dim=2))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, dropout_p=0.1, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.feed(x)


class Transformer(nn.Module):
    """The table of words is the last layer too, and the table of places is frozen."""

    def __init__(self, width=32):
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, width), nn.Embedding(LENGTH, width)
        self.blocks = nn.Sequential(Block(width, 4), Block(width, 4))
        self.head = nn.Linear(width, WORDS, bias=False)
        self.head.weight = self.words.weight
        self.places.requires_grad_(False)

    def forward(self, words):
        return self.head(self.blocks(self.words(words) + self.places.weight))


def transformer():
    model = Transformer()
    decayed = [each for each in model.parameters() if each.requires_grad and each.ndim > 1]
    others = [each for each in model.parameters() if each.requires_grad and each.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0, "lr": 0.02}]
    optimizer = torch.optim.AdamW(groups, lr=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 6))
    for step in range(24):
        words = torch.randint(WORDS, (8, LENGTH + 1))
        loss = nn.functional.cross_entropy(model(words[:, :-1]).flatten(0, 1), words[:, 1:].flatten())
        (loss / 2).backward()
        if step % 2:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        yield loss


def lstm():
    model = nn.ModuleDict({"cells": nn.LSTM(4, 16, 2, dropout=0.2, batch_first=True), "head": nn.Linear(16, 1)})
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
    for _ in range(12):
        values = torch.randn(6, 10, 4)
        optimizer.zero_grad()
        loss = (model["head"](model["cells"](values)[0][:, -1]).squeeze(1) - values.sum((1, 2))).square().mean()
        loss.backward()
        optimizer.step()
        yield loss


def sparse():
    """Tables whose gradients hold but the rows that were looked up, in two optimizers."""
    rows, bag = nn.Embedding(50, 8, sparse=True), nn.EmbeddingBag(50, 8, sparse=True, mode="sum")
    optimizers = torch.optim.SparseAdam(rows.parameters()), torch.optim.SGD(bag.parameters(), lr=0.1)
    for _ in range(12):
        words = torch.randint(50, (6, 4))
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss = (rows(words).mean(1) * bag(words) - 1).square().mean()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        yield loss


if __name__ == "__main__":
    for kind in (transformer, lstm, sparse):
        print(kind.__name__, *[loss.item().hex() for loss in kind()], flush=True)
