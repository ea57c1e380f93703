"""What a script's answer sends as the model, and whether it is one or a change of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flpoc.client.foreign import Adapters
from flpoc.errors import UsageError
from flpoc.models.flmodel import FLModel, ParamsType
from flpoc.wire.trainer_messages import Give, TrainerStart

if TYPE_CHECKING:
    from flpoc.models.tensors import TensorFile


def outgoing(
    model: FLModel, given: Give, start: TrainerStart, adapters: Adapters, received: int
) -> tuple[Mapping[str, Any], ParamsType]:
    """Arrays by name, and what they are.

    Args:
        model: The answer.
        given: The task that it answers.
        start: What the job says of the script.
        adapters: What knows the parameters of frameworks.
        received: Descriptor of the file of the model received; -1 if none came.

    Raises:
        UsageError: Params or metrics are missing, or a tensor cannot be sent; it is named.
    """
    kind = ParamsType(model.params_type or ParamsType.FULL)
    if model.params is None or (isinstance(model.params, Mapping) and not model.params):
        _check_metrics(model, given)
        return {}, kind
    arrays = adapters.arrays(model.params)
    if received < 0 or given.kind == "evaluate":
        return arrays, kind
    from flpoc.models.tensors import TensorFile

    # from the file: the arrays that were received may have been changed in place
    with TensorFile.open(received) as file:
        _check_dtypes(arrays, file, given)
        if given.kind != "train" or kind is ParamsType.DIFF or start.transfer_type == "FULL":
            return arrays, kind
        from flpoc.client.difference import difference

        return difference(arrays, file), ParamsType.DIFF


def _check_metrics(model: FLModel, given: Give) -> None:
    """Without params, an answer is an evaluation, and has metrics."""
    if given.kind != "evaluate":
        what = "a training result" if given.kind == "train" else "the site's own model"
        raise UsageError(f"round {given.round + 1}: flare.send() of {what} without params")
    if not model.metrics:
        raise UsageError(f"round {given.round + 1}: flare.send() of an evaluation without metrics")


def _check_dtypes(arrays: Mapping[str, Any], received: TensorFile, given: Give) -> None:
    """Tensors keep their dtypes: what has been widened by the way is said where it can be mended."""
    import numpy as np

    from flpoc.models.tensors import dtype_name, numpy_dtype

    for spec in received.header.tensors:
        if spec.name not in arrays:
            continue
        have = np.asarray(arrays[spec.name]).dtype
        if dtype_name(have) in ("", spec.dtype):
            continue  # what is no dtype of a model is said where it is written
        was, now = _called(numpy_dtype(spec.dtype)), _called(have)
        hint = f"convert it before flare.send(), like array.astype({was!r})"
        if now == "float64":
            hint += f": NumPy makes float64 of {was} and an array, or a NumPy number, of float64"
        raise UsageError(
            f"round {given.round + 1}: {spec.name!r} was received as {was} and is now {now}: dtypes must stay",
            hint=hint,
        )


def _called(dtype: Any) -> str:
    return str(dtype.names[0] if dtype.names else dtype.name)
