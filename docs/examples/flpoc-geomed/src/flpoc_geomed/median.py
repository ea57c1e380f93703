"""The geometric median, found by weights (Weiszfeld 1937; smoothed as in Pillutla et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from flpoc.aggregating import Update
from flpoc.errors import IntegrityError
from flpoc.models.tensors import widen
from flpoc.workflows.mean import WeightedMean
from flpoc_geomed.settings import GeometricMedianSettings

if TYPE_CHECKING:
    from flpoc.models.tensors import TensorFile, TensorSpec

#: Elements taken at once: what is in memory is this many for each site.
BLOCK = 1 << 14
#: What has a distance; counters and masks go with the weights that are found.
FLOATS = ("F16", "BF16", "F32", "F64")


class GeometricMedian(WeightedMean):
    """A weighted mean whose weights make it the geometric median of the updates."""

    def __init__(self, settings: GeometricMedianSettings) -> None:
        self._settings = settings

    def aggregate(self, updates: Sequence[Update], base: TensorFile | None, into: Path) -> None:
        found = median_weights(
            products(updates), [one.weight for one in updates], self._settings.steps, self._settings.smoothing
        )
        weighed = [attrs.evolve(one, weight=weight) for one, weight in zip(updates, found, strict=True)]
        super().aggregate(weighed, base, into)


def products(updates: Sequence[Update]) -> Any:
    """The scalar products of the updates with each other, n x n, float64, as seen from the first one.

    Distances do not change if everything is moved; near the first update, fewer digits are lost than near zero.

    Raises:
        IntegrityError: A number is not finite; names site and tensor.
    """
    found = np.zeros((len(updates), len(updates)))
    for spec in updates[0].model.header.tensors:
        if spec.dtype not in FLOATS:
            continue
        for start in range(0, spec.elements, BLOCK):
            stop = min(start + BLOCK, spec.elements)
            rows = np.stack([_numbers(one, spec, start, stop) for one in updates])
            rows -= rows[0].copy()
            found += rows @ rows.T
    return found


def _numbers(update: Update, spec: TensorSpec, start: int, stop: int) -> Any:
    block = update.model.block(spec.name, start, stop)
    found = (widen(block) if spec.dtype == "BF16" else block).astype(np.float64)
    if not np.isfinite(found).all():
        raise IntegrityError(
            f"{update.site}: tensor {spec.name!r} holds NaN or infinity",
            hint="look at the learning rate and the loss of this site",
        )
    return found


def median_weights(gram: Any, weights: Sequence[float], steps: int, smoothing: float) -> list[float]:
    """Weights with which the mean is the geometric median; they are positive, and sum up to 1.

    Args:
        gram: Scalar products of the points with each other, n x n.
        weights: How much each point counts.
        steps: Corrections; each goes through all points once.
        smoothing: The smallest distance that counts, as a part of the largest one.
    """
    given = np.asarray(weights, np.float64) / np.sum(weights)
    found = given
    norms = np.diag(gram)
    for _ in range(steps):
        squares = norms - 2 * (gram @ found) + found @ gram @ found
        distances = np.sqrt(np.maximum(squares, 0.0))
        far = distances.max()
        if far == 0:
            break  # all are the same
        found = given / np.maximum(distances, smoothing * far)
        found = found / found.sum()
    return [float(one) for one in found]
