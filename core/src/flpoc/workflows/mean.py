"""The weighted mean of a round's updates."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import numpy as np

from flpoc.aggregating import Aggregator, Update
from flpoc.errors import IntegrityError
from flpoc.models.tensors import TensorFile, TensorSpec, TensorWriter, narrow, numpy_dtype, widen

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

#: Elements taken at once: two buffers of this many doubles stay in a processor's cache.
BLOCK = 1 << 16

_OPAQUE = ("F8_E4M3", "F8_E5M2")


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
    """

    def aggregate(self, updates: Sequence[Update], base: TensorFile | None, into: Path) -> None:
        is_change = _check(updates, base)
        layout = updates[0].model.header
        buffers = _Buffers()
        with TensorWriter(into, layout) as writer, np.errstate(all="ignore"):
            for spec in writer.header.tensors:
                start_from = base.block(spec.name, 0, spec.elements) if base is not None and is_change else None
                _mean_of_tensor(writer, spec, updates, start_from, buffers)
            writer.finish()


@attrs.frozen
class _Buffers:
    """Memory that is used again for every block."""

    total: Array = attrs.field(factory=lambda: np.empty(BLOCK))
    term: Array = attrs.field(factory=lambda: np.empty(BLOCK))


def _check(updates: Sequence[Update], base: TensorFile | None) -> bool:
    """Refuse updates that cannot be averaged; says whether they are changes."""
    if not updates:
        raise IntegrityError("there are no updates to average")
    for update in updates:
        if not 1e-100 < update.weight < 1e100:
            raise IntegrityError(
                f"{update.site}: weight {update.weight} is not greater than 0, or not finite",
                hint="send the number of steps or samples that the update is made of",
            )
        if differs := updates[0].model.header.same_layout(update.model.header):
            raise IntegrityError(f"{update.site}: not the tensors of {updates[0].site}: {differs}")
    changes = [update.site for update in updates if update.params_type == "DIFF"]
    if changes and len(changes) < len(updates):
        models = [update.site for update in updates if update.params_type != "DIFF"]
        raise IntegrityError(
            f"sent a change (DIFF): {', '.join(changes)}; sent a model (FULL): {', '.join(models)}",
            hint="use the same params_type at every site",
        )
    if changes and base is None:
        raise IntegrityError(f"{changes[0]}: sent a change (DIFF), but there is no model that it changes")
    if changes and base is not None and (differs := base.header.same_layout(updates[0].model.header)):
        raise IntegrityError(f"{changes[0]}: its change does not fit the model: {differs}")
    return bool(changes)


def _mean_of_tensor(
    writer: TensorWriter, spec: TensorSpec, updates: Sequence[Update], base: Array | None, buffers: _Buffers
) -> None:
    values = [update.model.block(spec.name, 0, spec.elements) for update in updates]
    # alone, an update is its own mean: w * x / w would cost a double its last bit
    weights = [float(update.weight) for update in updates] if len(updates) > 1 else [1.0]
    combine = _combiner(spec.dtype, updates, base)
    for start in range(0, spec.elements, BLOCK):
        stop = min(start + BLOCK, spec.elements)
        blocks = [value[start:stop] for value in values]
        result = combine(blocks, weights, None if base is None else base[start:stop], buffers)
        if not _all_finite(result):
            raise _not_finite(spec, start, blocks, updates)
        writer.write_block(spec.name, start, result)


_Combiner: TypeAlias = Callable[[list[Array], list[float], "Array | None", _Buffers], Array]


def _combiner(dtype: str, updates: Sequence[Update], base: Array | None) -> _Combiner:
    if dtype == "BOOL":
        return _first_truth
    if dtype in _OPAQUE:
        if base is not None:
            raise IntegrityError(
                f"{updates[0].site}: a change (DIFF) of {dtype} cannot be added",
                hint="send the model itself (FULL), or wider numbers",
            )
        return _first
    return _whole_mean if numpy_dtype(dtype).kind in "iu" else _float_mean


def _first(blocks: list[Array], weights: list[float], base: Array | None, buffers: _Buffers) -> Array:
    return blocks[0]


def _first_truth(blocks: list[Array], weights: list[float], base: Array | None, buffers: _Buffers) -> Array:
    return blocks[0] if base is None else np.logical_xor(base, blocks[0])


def _float_mean(blocks: list[Array], weights: list[float], base: Array | None, buffers: _Buffers) -> Array:
    mean = _mean(blocks, weights, base, buffers)
    dtype = blocks[0].dtype
    if dtype.kind == "V":
        return narrow(mean.astype(np.float32))
    return mean if dtype == mean.dtype else mean.astype(dtype)


def _whole_mean(blocks: list[Array], weights: list[float], base: Array | None, buffers: _Buffers) -> Array:
    dtype = blocks[0].dtype
    mean = np.rint(_mean(blocks, weights, base, buffers))
    limits = np.iinfo(dtype)
    # the largest double that the dtype still holds: 2**63 - 1 itself is no double
    highest = float(limits.max) if dtype.itemsize < 8 else np.nextafter(float(limits.max), 0)
    result = np.clip(mean, float(limits.min), highest).astype(dtype)
    if dtype.itemsize == 8 and base is None:
        agree = np.ones(result.shape, bool)
        for block in blocks[1:]:
            agree &= block == blocks[0]
        np.copyto(result, blocks[0], where=agree)
    return result


def _mean(blocks: list[Array], weights: list[float], base: Array | None, buffers: _Buffers) -> Array:
    """The weighted mean of blocks, plus *base*, as doubles in a buffer that the next call overwrites."""
    total, term = buffers.total[: blocks[0].size], buffers.term[: blocks[0].size]
    for place, (block, weight) in enumerate(zip(blocks, weights, strict=True)):
        into = term if place else total
        np.copyto(into, _wide(block))
        np.multiply(into, weight, out=into)
        if place:
            np.add(total, term, out=total)
    np.divide(total, math.fsum(weights), out=total)
    if base is not None:
        np.copyto(term, _wide(base))
        np.add(total, term, out=total)
    return total


def _wide(block: Array) -> Array:
    return widen(block) if block.dtype.kind == "V" else block


def _all_finite(block: Array) -> bool:
    if block.dtype.kind == "f":
        return bool(np.isfinite(block).all())
    if "bfloat16" in (block.dtype.names or ()):
        return bool(np.isfinite(widen(block)).all())
    return True


def _not_finite(spec: TensorSpec, start: int, blocks: list[Array], updates: Sequence[Update]) -> IntegrityError:
    for update, block in zip(updates, blocks, strict=True):
        if not _all_finite(block):
            place = start + int(np.argmin(np.isfinite(_wide(block))))
            return IntegrityError(
                f"{update.site}: tensor {spec.name!r} holds NaN or infinity (element {place} of {spec.elements})",
                hint="look at the learning rate and the loss of this site",
                data={"site": update.site, "tensor": spec.name},
            )
    return IntegrityError(f"tensor {spec.name!r}: the mean is too large for {spec.dtype}", data={"tensor": spec.name})
