"""The aggregator keeps what every aggregator must, and its own promise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flpoc_geomed.median import GeometricMedian, median_weights
from flpoc_geomed.settings import GeometricMedianSettings

from flpoc.aggregating import Aggregator, Update
from flpoc.models.tensors import TensorFile, write_tensors
from flpoc.testing import AggregatorSuite, PluginSuite

DRAWS = np.random.default_rng(7)


class TestGeometricMedian(AggregatorSuite):
    @pytest.fixture
    def aggregator(self) -> Aggregator:
        return GeometricMedian(GeometricMedianSettings())


class TestPlugin(PluginSuite):
    plugin = "flpoc_geomed.hooks"


def of(points: Any, weights: Any, steps: int = 500) -> Any:
    return np.array(median_weights(points @ points.T, weights, steps, 1e-9)) @ points


def test_on_a_line_it_is_the_median() -> None:
    found = of(np.array([[1.0], [2.0], [3.0], [50.0], [1000.0]]), [1.0] * 5)
    assert found == pytest.approx([3.0], abs=1e-3)


def test_no_step_in_any_direction_makes_the_sum_of_distances_smaller() -> None:
    points, weights = DRAWS.standard_normal((7, 3)), DRAWS.random(7) + 0.5
    found = of(points, weights)

    def cost(place: Any) -> float:
        return float(weights @ np.linalg.norm(points - place, axis=1))

    for step in DRAWS.standard_normal((200, 3)):
        assert cost(found + 1e-3 * step / np.linalg.norm(step)) >= cost(found) - 1e-9


def test_a_minority_cannot_move_it_far(tmp_path: Path) -> None:
    honest = [DRAWS.standard_normal(50) + 3.0 for _ in range(5)]
    models = [*honest, np.full(50, 1e9), np.full(50, -4e8)]
    updates = []
    for number, model in enumerate(models, start=1):
        write_tensors(tmp_path / f"{number}", {"w": model, "n": np.array(number)})
        updates.append(Update(f"site-{number}", 1.0, TensorFile.open(tmp_path / f"{number}")))
    GeometricMedian(GeometricMedianSettings()).aggregate(updates, None, tmp_path / "into")
    with TensorFile.open(tmp_path / "into") as found:
        assert np.linalg.norm(found["w"] - np.mean(honest, axis=0)) < 10
        assert found["n"].dtype == np.int64
    for update in updates:
        update.model.close()
