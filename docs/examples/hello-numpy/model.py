"""The model: softmax regression on handwritten digits (1,797 images of 8 x 8)."""

import numpy as np
from sklearn.datasets import load_digits


def new_model() -> dict[str, np.ndarray]:
    return {"weight": np.zeros((64, 10), "float32"), "bias": np.zeros(10, "float32")}


def load_part(site: str, sites: int):
    """This site's share of the training images, and the held-out fifth of all."""
    digits = load_digits()
    images, labels = (digits.data / 16).astype("float32"), digits.target
    order = np.random.default_rng(0).permutation(len(images))
    test, train = order[: len(order) // 5], order[len(order) // 5 :]
    mine = np.array_split(train, sites)[int(site.rpartition("-")[2]) - 1]
    return images[mine], labels[mine], images[test], labels[test]


def predict(params, images):
    scores = np.exp(images @ params["weight"] + params["bias"])
    return scores / scores.sum(axis=1, keepdims=True)


def train(params, images, labels, rng, rate=0.1, batch=10):
    """One epoch of stochastic gradient descent, in place; gives the number of steps."""
    order = rng.permutation(len(images))
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        error = predict(params, images[part])
        error[np.arange(len(part)), labels[part]] -= 1
        params["weight"] -= rate * images[part].T @ error / len(part)
        params["bias"] -= rate * error.mean(axis=0)
    return -(-len(order) // batch)
