"""The aggregator ``code``: one that a job brings along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flpoc.aggregating import Aggregator, ModelAggregator, Update
from flpoc.errors import JobError
from flpoc.jobs.code import CodeRef
from flpoc.models.flmodel import FLModel, MetaKey
from flpoc.models.tensors import BFLOAT16, Header, TensorFile, TensorSpec, TensorWriter, dtype_name, widen
from flpoc.workflows.blocks import (
    Array,
    all_finite,
    check_alike,
    check_finite,
    first_sites,
    is_opaque,
    spans,
    stored,
    too_large,
    wide,
)
from flpoc.workflows.job_code import made_from_code


class CodeAggregator(Aggregator):
    """Gives a :class:`ModelAggregator` of the job's code the updates, in site order, and writes what it makes.

    How much memory that takes is the job's own affair; what it is given is mapped.
    """

    def __init__(self, ref: CodeRef, code: Path) -> None:
        self._ref = ref
        #: What the job's class gave.
        self.own = made_from_code(code, ref, ModelAggregator, "aggregator")  # type: ignore[type-abstract]

    def state(self) -> bytes:
        state = self.own.state()
        if not isinstance(state, bytes):
            raise self._wrong("state", f"gives {type(state).__name__}, not bytes")
        return state

    def restore(self, state: bytes) -> None:
        self.own.restore(state)

    def aggregate(self, updates: Sequence[Update], base: TensorFile | None, into: Path) -> None:
        is_change = check_alike(updates, base)
        for update in updates:
            for spec in update.model.header.tensors:
                for start, stop in spans(spec.elements):
                    check_finite(spec, start, update.model.block(spec.name, start, stop), update.site)
        self.own.reset_stats()
        for update in updates:
            self.own.accept_model(_given(update))
        made = self._checked(self.own.aggregate_model(), updates[0].model.header, is_change)
        with TensorWriter(into, updates[0].model.header) as writer, np.errstate(all="ignore"):
            for spec in writer.header.tensors:
                under = base[spec.name] if is_change and base is not None else None
                writer.write_block(spec.name, 0, self._stored(spec, made[spec.name], under))
            writer.finish()

    def _checked(self, model: Any, layout: Header, is_change: bool) -> dict[str, Array]:
        """What it made, as arrays of the right names and shapes."""
        if not isinstance(model, FLModel):
            raise self._wrong("aggregate_model", f"gives {type(model).__name__}, not FLModel")
        if not isinstance(model.params, Mapping) or not model.params:
            raise self._wrong("aggregate_model", f"gives {type(model.params).__name__} as params, not a dict of arrays")
        if (model.params_type == "DIFF") is not is_change:
            accepted = "DIFF" if is_change else "FULL"
            raise self._wrong(
                "aggregate_model",
                f"gives {model.params_type}; it was given {accepted}",
                f'make it FLModel(params_type="{accepted}", params=...)',
            )
        shapes = {spec.name: spec.shape for spec in layout.tensors}
        if others := sorted(map(str, shapes.keys() ^ model.params.keys())):
            known = "leaves out" if others[0] in shapes else "adds"
            raise self._wrong("aggregate_model", f"{known} the tensor {others[0]!r}")
        arrays = {name: np.asarray(value) for name, value in model.params.items()}
        for name, shape in shapes.items():
            if arrays[name].shape != shape:
                raise self._wrong("aggregate_model", f"tensor {name!r} has shape {arrays[name].shape}, not {shape}")
            if not dtype_name(arrays[name].dtype):
                raise self._wrong("aggregate_model", f"tensor {name!r} has dtype {arrays[name].dtype}: no numbers")
        return arrays

    def _stored(self, spec: TensorSpec, made: Array, base: Array | None) -> Array:
        """A tensor that it made, in the dtype that it must have, added to *base* if it is a change of it."""
        if spec.dtype == "BOOL" or is_opaque(spec.dtype):
            if dtype_name(made.dtype) != spec.dtype:
                raise self._wrong("aggregate_model", f"tensor {spec.name!r} is {made.dtype}, not {spec.dtype}")
            return first_sites(spec, made, "aggregator", base)
        made = wide(made) if made.dtype == BFLOAT16 else made
        if base is not None:
            made = made.astype(np.float64) + wide(base).astype(np.float64)
        result = made if dtype_name(made.dtype) == spec.dtype else stored(made.astype(np.float64), spec.dtype)
        if not all_finite(made):
            raise self._wrong("aggregate_model", f"tensor {spec.name!r} holds NaN or infinity")
        if not all_finite(result):
            raise too_large(spec)
        return result

    def _wrong(self, method: str, text: str, hint: str = "") -> JobError:
        return JobError(f"aggregator: {self._ref.name}.{method} of code/{self._ref.file} {text}", hint=hint)


def _given(update: Update) -> FLModel:
    """An update as the job's class gets it."""
    arrays = {n: widen(a) if a.dtype == BFLOAT16 else a for n, a in update.model.arrays().items()}
    meta = {**update.meta, MetaKey.SITE_NAME: update.site, MetaKey.NUM_STEPS_CURRENT_ROUND: update.weight}
    return FLModel(params_type=update.params_type, params=arrays, metrics=dict(update.metrics), meta=meta)
