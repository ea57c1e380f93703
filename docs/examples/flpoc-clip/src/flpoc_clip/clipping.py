"""Clipping by the norm of the change (Abadi et al. 2016, arXiv:1607.00133, for whole updates)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from flpoc.errors import IntegrityError
from flpoc.filtering import Departure, Filter
from flpoc.models.tensors import TensorFile, TensorSpec, TensorWriter, narrow, numpy_dtype, widen
from flpoc_clip.settings import ClipSettings

#: Elements taken at once: memory does not grow with the model.
BLOCK = 1 << 16
FLOATS = ("F16", "BF16", "F32", "F64")


class Clip(Filter):
    """Scales the change that an update makes so that its norm is not above a bound.

    The norm is taken in double precision over all floating-point tensors.
    Everything else (counters, truth values) leaves as it was received, so
    that nothing can leave beside the bound.
    """

    def __init__(self, settings: ClipSettings) -> None:
        self._bound = settings.norm

    def apply(self, update: TensorFile, received: TensorFile | None, into: Path, departure: Departure) -> None:
        base = received if departure.params_type == "FULL" else None
        if departure.params_type == "FULL" and received is None:
            raise IntegrityError("there is no model yet to compare with", hint="give the job an initial_model")
        if base is not None and (differs := base.header.same_layout(update.header)):
            raise IntegrityError(f"the update does not fit the received model: {differs}")
        norm = math.sqrt(sum(float(np.dot(change, change)) for change in _changes(update, base)))
        if not math.isfinite(norm):
            raise IntegrityError("the update has numbers that are not finite", hint="look at the loss of the script")
        scale = min(1.0, self._bound / norm) if norm else 1.0
        with TensorWriter(into, update.header) as writer:
            for spec in writer.header.tensors:
                for start, stop in _blocks(spec):
                    writer.write_block(spec.name, start, _clipped(update, base, spec, (start, stop), scale))
            writer.finish()


def _blocks(spec: TensorSpec) -> Iterator[tuple[int, int]]:
    for start in range(0, spec.elements, BLOCK):
        yield start, min(start + BLOCK, spec.elements)


def _changes(update: TensorFile, base: TensorFile | None) -> Iterator[np.ndarray[Any, Any]]:
    for name in update.names:
        spec = update.spec(name)
        if spec.dtype in FLOATS:
            for block in _blocks(spec):
                yield _change(update, base, spec, block)


def _change(update: TensorFile, base: TensorFile | None, spec: TensorSpec, block: tuple[int, int]) -> Any:
    value = _double(update.block(spec.name, *block), spec)
    return value if base is None else value - _double(base.block(spec.name, *block), spec)


def _double(values: Any, spec: TensorSpec) -> Any:
    return (widen(values) if spec.dtype == "BF16" else values).astype(np.float64)


def _clipped(
    update: TensorFile, base: TensorFile | None, spec: TensorSpec, block: tuple[int, int], scale: float
) -> Any:
    if spec.dtype not in FLOATS:
        return np.zeros(block[1] - block[0], numpy_dtype(spec.dtype)) if base is None else base.block(spec.name, *block)
    if scale == 1.0:
        return update.block(spec.name, *block)
    change = scale * _change(update, base, spec, block)
    found = change if base is None else _double(base.block(spec.name, *block), spec) + change
    return narrow(found.astype(np.float32)) if spec.dtype == "BF16" else found.astype(numpy_dtype(spec.dtype))
