"""Write scikit-learn's bundled handwritten digits as data/train.npz and data/test.npz."""

import argparse
import os

import numpy as np
from sklearn.datasets import load_digits

TRAIN_IMAGES = 1440


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="data", help="folder to write to")
    out = parser.parse_args().out

    digits = load_digits()
    images = (digits.images / 16.0).astype(np.float32)
    labels = digits.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(labels))

    os.makedirs(out, exist_ok=True)
    for name, part in (("train", order[:TRAIN_IMAGES]), ("test", order[TRAIN_IMAGES:])):
        path = os.path.join(out, f"{name}.npz")
        np.savez(path, images=images[part], labels=labels[part])
        print(f"{path}: {len(part)} images")


if __name__ == "__main__":
    main()
