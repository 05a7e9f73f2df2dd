"""No optimizer and no backward pass: gradients are asked for, and weights are written by hand."""

import torch

nn = torch.nn

if __name__ == "__main__":
    model = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Dropout(0.1), nn.Linear(12, 1))
    weights = list(model.parameters())
    for step in range(20):
        values = torch.randn(16, 6)
        loss = (model(values) - values.prod(1, keepdim=True)).square().mean()
        gradients = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight -= 0.1 * gradient
        print(step, loss.item().hex(), flush=True)
