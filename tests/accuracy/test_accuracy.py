"""Federated averaging learns as well as it should: final accuracies, compared with those of a plain loop.

The figures are those of a reference in NumPy that knows no federation (three
seeds, mean and standard deviation of the accuracy on held-out data after the
last round). Sites draw other batches than the reference did, so that a
hundredth is allowed on top of the deviation.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from accuracy.problem import accuracy, forward, load, new_model, widths
from flpoc.models.tensors import TensorFile
from flpoc.recipe import NumpyFedAvgRecipe, SimEnv

HERE = Path(__file__).parent
SEEDS = (0, 1, 2)
#: What other batches may change.
LEEWAY = 0.01


@attrs.frozen
class Course:
    """How it is learned."""

    data: str
    hidden: tuple[int, ...]
    sites: int
    sampled: int | None
    epochs: int
    batch: int
    rounds: int
    rate: float = 0.1


DIGITS = Course("digits", (), 10, None, 1, 10, 50)
DIGITS_MLP = attrs.evolve(DIGITS, hidden=(64,))
MNIST = Course("mnist5k", (), 100, 10, 5, 10, 100)
MNIST_2NN = attrs.evolve(MNIST, hidden=(200, 200))
CANCER = Course("breast_cancer", (), 2, None, 1, 32, 20)
CANCER_MLP = attrs.evolve(CANCER, hidden=(128,))

# course, split, mean and deviation of the reference, and which scripts
ROWS = [
    (DIGITS, "iid", 0.948, 0.011, "numpy torch"),
    (DIGITS, "dir0.5", 0.941, 0.010, "numpy torch"),
    (DIGITS, "dir0.1", 0.916, 0.014, "numpy"),
    (DIGITS_MLP, "iid", 0.959, 0.001, "numpy"),
    (DIGITS_MLP, "dir0.5", 0.949, 0.009, "numpy"),
    (MNIST, "iid", 0.903, 0.004, "numpy torch"),
    (MNIST, "dir0.5", 0.895, 0.005, "numpy torch"),
    (MNIST_2NN, "dir0.5", 0.932, 0.008, "numpy"),
    (CANCER, "iid", 0.979, 0.0, "numpy torch"),
    (CANCER, "dir0.5", 0.968, 0.0, "numpy torch"),
    (CANCER_MLP, "iid", 0.959, 0.0, "numpy"),
]
CASES = [
    pytest.param(course, split, mean, deviation, kind, id=f"{course.data}-{len(course.hidden)}-{split}-{kind}")
    for course, split, mean, deviation, kinds in ROWS
    for kind in kinds.split()
]


def learned(folder: Path, course: Course, split: str, kind: str, seed: int, root: Path) -> dict[str, Any]:
    """The final model of a simulation."""
    ask = {
        "folder": str(folder), "data": course.data, "seed": seed, "sites": course.sites, "split": split,
        "epochs": course.epochs, "batch": course.batch, "rate": course.rate,
    }  # fmt: skip
    recipe = NumpyFedAvgRecipe(
        name=f"{course.data}-{seed}",
        model=new_model(widths(str(folder), course.data, course.hidden, seed), seed),
        min_clients=course.sites,
        num_rounds=course.rounds,
        clients_per_round=course.sampled,
        train_script=str(HERE / f"train_{kind}.py"),
        train_args=[json.dumps(ask)],
        seed=seed,
    )
    run = recipe.run(SimEnv(num_clients=course.sites, num_threads=2, workspace_root=str(root)))
    with TensorFile.open(Path(str(run.get_result())) / "FL_global_model.safetensors") as model:
        return {name: np.array(model[name]) for name in model.names}


@pytest.mark.parametrize(("course", "split", "mean", "deviation", "kind"), CASES)
def test_the_accuracy_is_that_of_the_reference(
    data_folder: Path, course: Course, split: str, mean: float, deviation: float, kind: str, tmp_path: Path
) -> None:
    found = []
    for seed in SEEDS:
        model = learned(data_folder, course, split, kind, seed, tmp_path)
        data = load(str(data_folder), course.data, seed)
        found.append(accuracy(model, data.test_rows, data.test_labels))
    assert abs(float(np.mean(found)) - mean) <= deviation + LEEWAY, f"{found}, wanted is {mean}"


def test_the_ranking_of_patients_is_that_of_the_reference(data_folder: Path, tmp_path: Path) -> None:
    from sklearn.metrics import roc_auc_score

    areas = []
    for seed in SEEDS:
        model = learned(data_folder, CANCER, "iid", "numpy", seed, tmp_path)
        data = load(str(data_folder), "breast_cancer", seed)
        scores = forward(model, data.test_rows)[-1]
        areas.append(roc_auc_score(data.test_labels, scores[:, 1] - scores[:, 0]))
    assert float(np.mean(areas)) == pytest.approx(0.993, abs=0.004)
