"""Aggregators that a few sites cannot lead astray."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

import attrs
import numpy as np

from flpoc.aggregating import Aggregator, Update
from flpoc.errors import IntegrityError
from flpoc.models.tensors import TensorFile, TensorSpec, TensorWriter
from flpoc.workflows.aggregator_settings import KrumSettings, TrimmedMeanSettings
from flpoc.workflows.blocks import (
    BLOCK,
    Array,
    all_finite,
    check_alike,
    check_finite,
    first_sites,
    is_opaque,
    is_real,
    spans,
    stored,
    too_large,
    wide,
)
from flpoc.workflows.mean import WeightedMean

#: Numbers of all sites together that are taken at once.
_AT_ONCE = 1 << 18


class _Ranked(Aggregator):
    """For each number: the mean of those in the middle, when the sites' are put in order. Weights do not count.

    Whole numbers are rounded, ties to even, and exact where one is in the
    middle. Truth values and float8 are the first site's. Changes (``DIFF``)
    are added to the model that the sites received.
    """

    @abstractmethod
    def _left_out(self, sites: int) -> int:
        """How many are left out at either end."""

    def aggregate(self, updates: Sequence[Update], base: TensorFile | None, into: Path) -> None:
        is_change = check_alike(updates, base)
        with TensorWriter(into, updates[0].model.header) as writer, np.errstate(all="ignore"):
            for spec in writer.header.tensors:
                self._write(writer, spec, updates, base if is_change else None)
            writer.finish()

    def _write(
        self, writer: TensorWriter, spec: TensorSpec, updates: Sequence[Update], base: TensorFile | None
    ) -> None:
        cut = self._left_out(len(updates))
        for start, stop in spans(spec.elements, _block(len(updates))):
            blocks = [update.model.block(spec.name, start, stop) for update in updates]
            under = base.block(spec.name, start, stop) if base is not None else None
            if spec.dtype == "BOOL" or is_opaque(spec.dtype):
                result = first_sites(spec, blocks[0], updates[0].site, under)
            else:
                for update, block in zip(updates, blocks, strict=True):
                    check_finite(spec, start, block, update.site)
                result = _middle(spec, blocks, cut, under)
            if not all_finite(result):
                raise too_large(spec)
            writer.write_block(spec.name, start, result)


def _block(sites: int) -> int:
    """How many elements are taken at once, so that memory does not grow with the number of sites."""
    return max(64, min(BLOCK, _AT_ONCE // sites))


def _middle(spec: TensorSpec, blocks: list[Array], cut: int, base: Array | None) -> Array:
    # a row a number, since sorting what lies together is faster
    ranked = np.sort(np.stack([wide(block) for block in blocks], axis=1), axis=1).T[cut : len(blocks) - cut]
    if len(ranked) == 1 and base is None and spec.dtype != "BF16":
        return np.ascontiguousarray(ranked[0])
    total = np.zeros(ranked.shape[1])
    for row in ranked:
        total += row
    total /= len(ranked)
    if base is not None:
        total += wide(base)
    result = stored(total, spec.dtype)
    if result.dtype.kind in "iu" and base is None:  # beyond 2**53 exact at least where all agree
        np.copyto(result, ranked[0], where=ranked[0] == ranked[-1])
    return result


class Median(_Ranked):
    """The median of each number: right as long as fewer than half of the sites are wrong.

    Yin, Chen, Kannan, Bartlett: Byzantine-Robust Distributed Learning:
    Towards Optimal Statistical Rates. ICML 2018, arXiv:1803.01498,
    definition 1. Of an even number of sites it is the mean of the two in the middle.
    Weights do not count: a site could claim any. Whole numbers are rounded,
    truth values and float8 are the first site's.
    """

    def _left_out(self, sites: int) -> int:
        return (sites - 1) // 2


class TrimmedMean(_Ranked):
    """The mean of each number without the smallest and the largest ones.

    Yin et al. 2018 (arXiv:1803.01498), definition 2: of n sites, floor(trim x n)
    are left out at either end, of each number. It holds as long as that many
    are wrong. Weights do not count: a site could claim any. Whole numbers are
    rounded, truth values and float8 are the first site's.
    """

    def __init__(self, settings: TrimmedMeanSettings | None = None) -> None:
        self._trim = (settings or TrimmedMeanSettings()).trim

    def _left_out(self, sites: int) -> int:
        return math.floor(self._trim * sites + 1e-9)  # 0.29 x 100 is a little less than 29


class Krum(Aggregator):
    """The update that is nearest to its neighbours, or the mean of the best ones.

    Blanchard, El Mhamdi, Guerraoui, Stainer: Machine Learning with
    Adversaries: Byzantine Tolerant Gradient Descent. NeurIPS 2017. An
    update's score is the sum of its squared distances to the n - f - 2
    nearest others, f being ``byzantine``; the lowest score wins, of equal ones the first in site
    order. With ``select`` above 1 the best ones are averaged (Multi-Krum), each as
    much as the other: weights do not count, a site could claim any.

    Distances are of all real numbers of a model together, in doubles; counters and masks
    have no say. It takes at least 2 f + 3 updates.
    """

    def __init__(self, settings: KrumSettings | None = None) -> None:
        self._settings = settings or KrumSettings()
        self._mean = WeightedMean()

    def aggregate(self, updates: Sequence[Update], base: TensorFile | None, into: Path) -> None:
        check_alike(updates, base)
        wrong, select = self._settings.byzantine, self._settings.select
        if len(updates) < 2 * wrong + 3:
            raise IntegrityError(
                f"krum: {len(updates)} updates; with byzantine = {wrong} it takes {2 * wrong + 3}",
                hint="have more sites take part, or lower `byzantine` in the settings of the aggregator",
            )
        if select > len(updates) - wrong:
            raise IntegrityError(
                f"krum: select = {select} of {len(updates)} updates, of which {wrong} may be wrong",
                hint=f"select at most {len(updates) - wrong}",
            )
        with np.errstate(all="ignore"):
            order = best_first(_squared_distances(updates), wrong)
        chosen = sorted(order[:select])
        self._mean.aggregate([attrs.evolve(updates[place], weight=1.0) for place in chosen], base, into)


def best_first(distances: Array, byzantine: int) -> list[int]:
    """Places of updates by their Krum score, the lowest first; *distances* are squared, shape (n, n)."""
    count = len(distances)
    scores = []
    for place in range(count):
        others = sorted(float(distances[place, other]) for other in range(count) if other != place)
        scores.append(sum(others[: count - byzantine - 2]))
    return sorted(range(count), key=lambda place: (scores[place], place))


def _squared_distances(updates: Sequence[Update]) -> Array:
    """Squared Euclidean distances of the updates' real numbers, shape (n, n), added up block by block."""
    count = len(updates)
    found = np.zeros((count, count))
    for spec in updates[0].model.header.tensors:
        for start, stop in spans(spec.elements, _block(count)):
            blocks = [update.model.block(spec.name, start, stop) for update in updates]
            for update, block in zip(updates, blocks, strict=True):
                check_finite(spec, start, block, update.site)
            if not is_real(spec.dtype):
                continue
            rows = np.stack([wide(block) for block in blocks]).astype(np.float64)
            for place in range(count - 1):
                apart = np.square(rows[place + 1 :] - rows[place]).sum(axis=1)
                found[place, place + 1 :] += apart
                found[place + 1 :, place] += apart
    return found
