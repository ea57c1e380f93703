"""Softmax regression on handwritten digits (1797 images of 8 x 8), each site with its own part."""

import numpy as np

import flpoc.client as flare

SITES = 2
LEARNING_RATE, BATCH = 0.1, 10


def load_part(site: str):
    """The held-out fifth, and this site's share of the rest."""
    digits = np.loadtxt(flare.get_dataset("poc") / "digits.csv.gz", delimiter=",")
    images, labels = (digits[:, :-1] / 16).astype("float32"), digits[:, -1].astype(int)
    order = np.random.default_rng(0).permutation(len(images))
    test, train = order[: len(order) // 5], order[len(order) // 5 :]
    mine = np.array_split(train, SITES)[int(site.rpartition("-")[2]) - 1]
    return images[mine], labels[mine], images[test], labels[test]


def predict(params, images):
    scores = images @ params["weight"] + params["bias"]
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)


def train(params, images, labels, rng):
    order = rng.permutation(len(images))
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        error = predict(params, images[batch])
        error[np.arange(len(batch)), labels[batch]] -= 1
        params["weight"] -= LEARNING_RATE * images[batch].T @ error / len(batch)
        params["bias"] -= LEARNING_RATE * error.mean(axis=0)


flare.init()
images, labels, test_images, test_labels = load_part(flare.get_site_name())
while flare.is_running():
    model = flare.receive()
    params = model.params or {"weight": np.zeros((64, 10), "float32"), "bias": np.zeros(10, "float32")}
    accuracy = float((predict(params, test_images).argmax(axis=1) == test_labels).mean())
    print(f"after {model.current_round} rounds: accuracy {accuracy:.3f}")
    metrics = {"accuracy": accuracy}
    if flare.is_evaluate():
        flare.send(flare.FLModel(metrics=metrics))
        continue
    train(params, images, labels, np.random.default_rng(flare.get_seed()))
    meta = {"NUM_STEPS_CURRENT_ROUND": len(images) // BATCH}
    flare.send(flare.FLModel(params=params, metrics=metrics, meta=meta))
