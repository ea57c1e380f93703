"""The weighted mean of a round's updates."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import attrs
import numpy as np

from flpoc.aggregating import Aggregator, Update
from flpoc.errors import IntegrityError
from flpoc.models.tensors import Header, TensorFile, TensorSpec, TensorWriter, numpy_dtype
from flpoc.workflows.aggregator_settings import MeanSettings
from flpoc.workflows.blocks import (
    BLOCK,
    Array,
    all_finite,
    check_finite,
    check_kinds,
    first_sites,
    is_opaque,
    misfit,
    spans,
    stored,
    too_large,
    wide,
)


class WeightedMean(Aggregator):
    """FedAvg's mean: each site counts as much as its weight (McMahan et al. 2017, arXiv:1602.05629).

    For every element, weight x value is added in site order in double
    precision and divided once by the sum of the weights: the same updates in
    the same order give the same bits. Memory does not grow with the model
    or the number of sites.

    - Changes (``DIFF``) are averaged and added to the model that the sites received.
    - bfloat16 is rounded to the nearest from the float32 mean.
    - Whole numbers are the rounded mean (ties to even); beyond 2**53 they are
      exact only where all sites agree.
    - Truth values and float8 are the first site's; a change of truth values is an exclusive or.
    - One update alone comes out as it went in, whatever its weight.
    - Of a tensor that only some sites sent, it is the mean of those; one that nobody sent stays as it was.
    """

    #: As long as nothing is set; what inherits from it need not call its constructor.
    _factors: Mapping[str, float] = MappingProxyType({})
    _exclude: re.Pattern[str] | None = None

    def __init__(self, settings: MeanSettings | None = None) -> None:
        if settings is not None:
            self._factors = settings.weights
            self._exclude = re.compile(settings.exclude) if settings.exclude else None

    def weigh(self, update: Update) -> float:
        return update.weight * self._factors.get(update.site, 1.0)

    def aggregate(self, updates: Sequence[Update], base: TensorFile | None, into: Path) -> None:
        is_change = check_kinds(updates, base)
        updates = self._weighed(updates)
        given = Round(updates, base, is_change, Buffers())
        with TensorWriter(into, layout_of(updates, base, is_change)) as writer, np.errstate(all="ignore"):
            for spec in writer.header.tensors:
                self._write(writer, spec, given)
            writer.finish()

    def _weighed(self, updates: Sequence[Update]) -> tuple[Update, ...]:
        counting = [attrs.evolve(one, weight=self.weigh(one)) for one in updates]
        counting = [one for one in counting if one.weight > 0]
        if not counting:
            raise IntegrityError(
                f"none of {', '.join(one.site for one in updates)} counts: their weights are 0",
                hint="look at `weights` in the settings of the aggregator",
            )
        return tuple(counting)

    def _write(self, writer: TensorWriter, spec: TensorSpec, given: Round) -> None:
        """Write one tensor of the result."""
        sent = given.sent(spec.name)
        base = given.base
        if base is not None and spec.name not in base:
            base = None
        if not sent or (base is not None and self._excludes(spec.name)):
            assert base is not None  # what nobody sent is in the layout only if it is in the model
            copy_tensor(writer, spec, base)
        elif self._excludes(spec.name):
            check_and_copy(writer, spec, sent[0])
        else:
            write_mean(writer, spec, sent, base if given.is_change else None, given.buffers)

    def _excludes(self, name: str) -> bool:
        return self._exclude is not None and self._exclude.search(name) is not None


@attrs.frozen
class Buffers:
    """Memory that is used again for every block."""

    total: Array = attrs.field(factory=lambda: np.empty(BLOCK))
    term: Array = attrs.field(factory=lambda: np.empty(BLOCK))


@attrs.frozen
class Round:
    """What one model is made of.

    Attributes:
        updates: In site order, with the weights that count.
        base: The model that the sites received.
        is_change: Whether the updates are changes of it.
        buffers: For the blocks.
    """

    updates: tuple[Update, ...]
    base: TensorFile | None
    is_change: bool
    buffers: Buffers

    def sent(self, name: str) -> tuple[Update, ...]:
        """The updates that have this tensor."""
        return tuple(update for update in self.updates if name in update.model)


def layout_of(updates: Sequence[Update], base: TensorFile | None, is_change: bool) -> Header:
    """Which tensors the result has: the model's, of which an update may have some; without a model all updates' own.

    Raises:
        IntegrityError: The updates do not fit together; names the site and what is different.
    """
    first = updates[0]
    if base is not None:
        differs = [(update, misfit(base.header, update.model.header)) for update in updates]
        if not any(difference for _, difference in differs):
            return base.header
        if is_change:
            site, difference = next((update.site, text) for update, text in differs if text)
            raise IntegrityError(f"{site}: its change does not fit the model: {difference}")
    for update in updates[1:]:
        if difference := first.model.header.same_layout(update.model.header):
            raise IntegrityError(f"{update.site}: not the tensors of {first.site}: {difference}")
    return first.model.header


def copy_tensor(writer: TensorWriter, spec: TensorSpec, model: TensorFile) -> None:
    """Take a tensor as it is."""
    for start, stop in spans(spec.elements):
        writer.write_block(spec.name, start, model.block(spec.name, start, stop))


def check_and_copy(writer: TensorWriter, spec: TensorSpec, update: Update) -> None:
    """Take a tensor of one site as it is, unless it holds NaN or infinity."""
    for start, stop in spans(spec.elements):
        block = update.model.block(spec.name, start, stop)
        check_finite(spec, start, block, update.site)
        writer.write_block(spec.name, start, block)


def write_mean(
    writer: TensorWriter, spec: TensorSpec, updates: Sequence[Update], base: TensorFile | None, buffers: Buffers
) -> None:
    """Write the mean of a tensor; with *base*, of changes of it."""
    values = [update.model.block(spec.name, 0, spec.elements) for update in updates]
    received = base.block(spec.name, 0, spec.elements) if base is not None else None
    for start, stop in spans(spec.elements):
        blocks = [value[start:stop] for value in values]
        under = received[start:stop] if received is not None else None
        if spec.dtype == "BOOL" or is_opaque(spec.dtype):
            result = first_sites(spec, blocks[0], updates[0].site, under)
        else:
            result = _stored_mean(spec, mean_of(blocks, updates, under, buffers), blocks, under)
        if not all_finite(result):
            for update, block in zip(updates, blocks, strict=True):
                check_finite(spec, start, block, update.site)
            raise too_large(spec)
        writer.write_block(spec.name, start, result)


def _stored_mean(spec: TensorSpec, mean: Array, blocks: list[Array], base: Array | None) -> Array:
    result = stored(mean, spec.dtype)
    dtype = numpy_dtype(spec.dtype)
    if dtype.kind in "iu" and dtype.itemsize == 8 and base is None:
        agree = np.ones(result.shape, bool)
        for block in blocks[1:]:
            agree &= block == blocks[0]
        np.copyto(result, blocks[0], where=agree)
    return result


def mean_of(blocks: list[Array], updates: Sequence[Update], base: Array | None, buffers: Buffers) -> Array:
    """The weighted mean of blocks, plus *base*, as doubles in a buffer that the next call overwrites."""
    # alone, an update is its own mean: w * x / w would cost a double its last bit
    weights = [float(update.weight) for update in updates] if len(updates) > 1 else [1.0]
    total, term = buffers.total[: blocks[0].size], buffers.term[: blocks[0].size]
    for place, (block, weight) in enumerate(zip(blocks, weights, strict=True)):
        into = term if place else total
        np.copyto(into, wide(block))
        np.multiply(into, weight, out=into)
        if place:
            np.add(total, term, out=total)
    np.divide(total, math.fsum(weights), out=total)
    if base is not None:
        np.copyto(term, wide(base))
        np.add(total, term, out=total)
    return total
