"""An optimiser at the server: the mean of the sites' changes is its gradient."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flpoc.aggregating import Update
from flpoc.errors import IntegrityError
from flpoc.models.tensors import TensorFile, TensorSpec, TensorWriter, numpy_dtype
from flpoc.workflows.aggregator_settings import FedOptSettings, MeanSettings
from flpoc.workflows.blocks import (
    Array,
    all_finite,
    check_finite,
    check_kinds,
    is_real,
    spans,
    stored,
    too_large,
    wide,
)
from flpoc.workflows.mean import Buffers, Round, WeightedMean, layout_of, mean_of

#: Tensors of the state: ``1.NAME`` is the first moment, ``2.NAME`` the second.
_FIRST, _SECOND = "1.", "2."


class FedOpt(WeightedMean):
    """FedAdam, FedYogi, FedAdagrad and FedAvgM: the server takes a step along the mean change.

    Reddi, Charles, Zaheer, Garrett, Rush, Konečný, Kumar, McMahan: Adaptive
    Federated Optimization. ICLR 2021, arXiv:2003.00295, algorithm 2. With d
    the weighted mean of what the sites changed, for each number:

    - m = beta1 m + (1 - beta1) d
    - adagrad: v = v + d^2; adam: v = beta2 v + (1 - beta2) d^2; yogi: v = v - (1 - beta2) d^2 sign(v - d^2)
    - x = x + lr m / (sqrt(v) + tau); m begins with 0, v with tau^2, and neither is corrected for that
    - sgd (Hsu, Qi, Brown 2019, arXiv:1909.06335): m = momentum m + d; x = x + lr m

    Models (``FULL``) are compared with the one that the sites received. In a
    first round without one the result is the plain mean. Only real numbers
    are stepped; counters, masks and what ``average`` names are averaged as
    ``mean`` does. Moments are float32, for float64 tensors float64; they are
    in a file as large as one or two models, which is committed with the model.
    With ``lr_schedule``, lr is that of the number of steps taken before, which is committed, too.
    """

    def __init__(self, settings: FedOptSettings | None = None) -> None:
        settings = settings or FedOptSettings()
        super().__init__(MeanSettings(settings.exclude, settings.weights))
        self._optimizer = settings.optimizer
        self._first_lr = settings.lr if settings.lr is not None else {"sgd": 1.0}.get(settings.optimizer, 0.01)
        self._schedule, self._taken = settings.lr_schedule, 0
        self._betas, self._tau, self._momentum = settings.betas, settings.tau, settings.momentum
        self._average = re.compile(settings.average) if settings.average else None
        self._moments: TensorFile | None = None
        self._file: Path | None = None

    def state(self) -> bytes:
        return str(self._taken).encode() if self._schedule is not None else b""

    def restore(self, state: bytes) -> None:
        self._taken = int(state or b"0")

    @property
    def _lr(self) -> float:
        """The learning rate of the next step."""
        return self._first_lr if self._schedule is None else self._schedule.at(self._first_lr, self._taken)

    def state_file(self) -> Path | None:
        return self._file

    def restore_file(self, file: TensorFile) -> None:
        self._moments = file

    def aggregate(self, updates: Sequence[Update], base: TensorFile | None, into: Path) -> None:
        if self._file is not None:  # of a step that was never committed
            self._file.unlink(missing_ok=True)
        self._file = None
        if base is None:
            super().aggregate(updates, base, into)
            return
        is_change = check_kinds(updates, base)
        updates = self._weighed(updates)
        given = Round(updates, base, is_change, Buffers())
        layout = layout_of(updates, base, is_change)
        file = into.with_name(f"{into.name}.moments")
        file.unlink(missing_ok=True)
        moments = {spec.name: self._moments_of(spec) for spec in layout.tensors if self._steps(spec, base)}
        shapes = {name: shape for each in moments.values() for name, shape in each.items()}
        self._check_moments(shapes)
        with contextlib.ExitStack() as stack:
            stack.enter_context(np.errstate(all="ignore"))
            keep = stack.enter_context(TensorWriter(file, shapes))
            writer = stack.enter_context(TensorWriter(into, layout))
            for spec in writer.header.tensors:
                if spec.name in moments and given.sent(spec.name):
                    self._step(writer, keep, spec, given, tuple(moments[spec.name]))
                else:
                    self._write(writer, spec, given)
                    for name in moments.get(spec.name, {}):
                        self._keep_as_it_was(keep, name)
            keep.finish()
            writer.finish()
        self._file, self._moments = file, TensorFile.open(file)
        self._taken += 1

    def _steps(self, spec: TensorSpec, base: TensorFile) -> bool:
        if not is_real(spec.dtype) or spec.name not in base or base.spec(spec.name).shape != spec.shape:
            return False
        averaged = self._average is not None and self._average.search(spec.name) is not None
        return not averaged and not self._excludes(spec.name)

    def _moments_of(self, spec: TensorSpec) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Names of a tensor's moments, with their dtype and shape."""
        kept = ("F64" if spec.dtype == "F64" else "F32", spec.shape)
        names = (_FIRST,) if self._optimizer == "sgd" else (_FIRST, _SECOND)
        return {name + spec.name: kept for name in names}

    def _check_moments(self, shapes: dict[str, tuple[str, tuple[int, ...]]]) -> None:
        if self._moments is None:
            return
        found = {spec.name: (spec.dtype, spec.shape) for spec in self._moments.header.tensors}
        if found != shapes:
            raise IntegrityError("fedopt: the moments of the last round are not those of this model")

    def _moment(self, name: str, start: int, stop: int) -> Array:
        """A moment as it was left by the last round, as doubles."""
        if self._moments is not None:
            return self._moments.block(name, start, stop).astype(np.float64)
        return np.full(stop - start, self._tau**2 if name.startswith(_SECOND) else 0.0)

    def _keep_as_it_was(self, keep: TensorWriter, name: str) -> None:
        spec = next(one for one in keep.header.tensors if one.name == name)
        for start, stop in spans(spec.elements):
            keep.write_block(name, start, self._moment(name, start, stop).astype(numpy_dtype(spec.dtype)))

    def _step(
        self, writer: TensorWriter, keep: TensorWriter, spec: TensorSpec, given: Round, names: tuple[str, ...]
    ) -> None:
        """Take the step of one tensor, and write what is kept of it."""
        assert given.base is not None
        sent = given.sent(spec.name)
        dtype = np.float64 if spec.dtype == "F64" else np.float32
        for start, stop in spans(spec.elements):
            blocks = [update.model.block(spec.name, start, stop) for update in sent]
            received = wide(given.base.block(spec.name, start, stop)).astype(np.float64)
            change = mean_of(blocks, sent, None, given.buffers)
            if not given.is_change:
                change = change - received
            moved, moments = self._moved(change, [self._moment(name, start, stop) for name in names])
            result = stored(received + moved, spec.dtype)
            kept = [moment.astype(dtype) for moment in moments]
            if not all(map(all_finite, (result, *kept))):
                for update, block in zip(sent, blocks, strict=True):
                    check_finite(spec, start, block, update.site)
                raise too_large(spec)
            writer.write_block(spec.name, start, result)
            for name, moment in zip(names, kept, strict=True):
                keep.write_block(name, start, moment)

    def _moved(self, change: Array, moments: list[Array]) -> tuple[Array, list[Array]]:
        """By how much numbers move, and their moments after it."""
        if self._optimizer == "sgd":
            first = self._momentum * moments[0] + change
            return self._lr * first, [first]
        beta1, beta2 = self._betas
        first, second = beta1 * moments[0] + (1 - beta1) * change, moments[1]
        square = np.square(change)
        if self._optimizer == "adagrad":
            second = second + square
        elif self._optimizer == "adam":
            second = beta2 * second + (1 - beta2) * square
        else:
            second = second - (1 - beta2) * square * np.sign(second - square)
        return self._lr * first / (np.sqrt(second) + self._tau), [first, second]
