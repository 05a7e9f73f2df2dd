"""Other ways to step: two optimizers against each other, closures, and more parameters as the training goes on."""

import torch

nn = torch.nn


def gan():
    generator = nn.Sequential(nn.Linear(4, 16), nn.LeakyReLU(0.2), nn.Linear(16, 2))
    critic = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(2, 16)), nn.ReLU(), nn.Linear(16, 1))
    first = torch.optim.Adam(generator.parameters(), lr=0.001, betas=(0.5, 0.999))
    second = torch.optim.RMSprop(critic.parameters(), lr=0.001)
    for _ in range(12):
        for _ in range(2):
            made, real = generator(torch.randn(8, 4)).detach(), torch.randn(8, 2) * 0.5 + 1
            mixed = torch.lerp(real, made, torch.rand(8, 1)).requires_grad_()
            (slope,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
            loss = critic(made).mean() - critic(real).mean() + 10 * (slope.norm(dim=1) - 1).square().mean()
            second.zero_grad()
            loss.backward()
            second.step()
            yield loss
        loss = -critic(generator(torch.randn(8, 4))).mean()
        first.zero_grad()
        loss.backward()
        first.step()
        yield loss


def lbfgs():
    model = nn.Linear(4, 1)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=5, line_search_fn="strong_wolfe")
    values = torch.randn(32, 4)

    def closure():
        optimizer.zero_grad()
        loss = (model(values) - values.sum(1, True).sin()).square().mean()
        loss.backward()
        return loss

    for _ in range(10):
        yield optimizer.step(closure)


def thawed():
    """A frozen body, whose weights are given to the optimizer half way."""
    body, head = nn.Sequential(nn.Linear(8, 16), nn.Tanh()), nn.Linear(16, 1)
    body.requires_grad_(False)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12)
    for step in range(12):
        if step == 6:
            body.requires_grad_(True)
            optimizer.add_param_group({"params": body.parameters(), "lr": 0.01})
            schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
        optimizer.zero_grad()
        loss = (head(body(torch.randn(16, 8))) - 1).square().mean()
        loss.backward()
        optimizer.step()
        schedule.step()
        yield loss


if __name__ == "__main__":
    for kind in (gan, lbfgs, thawed):
        print(kind.__name__, *[loss.item().hex() for loss in kind()], flush=True)
