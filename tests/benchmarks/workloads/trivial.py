"""The smallest training there is: a line through one point, in pure Python, with one number to tell."""


def train(log):
    weight = 0.0
    for _ in range(100_000):
        weight -= 0.001 * 2 * (weight * 3.0 - 6.0) * 3.0
    log("weight", weight)


if __name__ == "__main__":
    train(print)
