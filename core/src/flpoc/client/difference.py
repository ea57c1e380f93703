"""What a model has become, less what it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from flpoc.errors import UsageError
from flpoc.models.tensors import BFLOAT16, dtype_name, narrow, widen

Array = np.ndarray[Any, Any]

_FULL = 'send it as it is: transfer_type = "FULL"'


def difference(new: Mapping[str, Any], received: Mapping[str, Array]) -> dict[str, Array]:
    """The change from a received model to a new one, name by name, in the dtypes of the received one.

    Real numbers and whole numbers are subtracted, bfloat16 as float32 and rounded once; booleans are true
    where they have changed (exclusive or).

    Raises:
        UsageError: A tensor is not among those received, has another shape or dtype, or its change cannot be
            written in its dtype; the tensor is named.
    """
    return {name: _of_tensor(name, np.asarray(value), received) for name, value in new.items()}


def _of_tensor(name: str, new: Array, received: Mapping[str, Array]) -> Array:
    if name not in received:
        raise UsageError(f"{name!r} is not among the tensors received: it has no difference from them")
    old = received[name]
    ours, theirs = dtype_name(new.dtype), dtype_name(old.dtype)
    if (ours, new.shape) != (theirs, old.shape):
        was, now = f"{theirs}{list(old.shape)}", f"{ours or new.dtype}{list(new.shape)}"
        raise UsageError(f"{name!r} was received as {was} and is now {now}", hint="names, shapes and dtypes must stay")
    if ours == "BF16":
        return narrow(widen(new.view(BFLOAT16)) - widen(old))
    match new.dtype.kind:
        case "b":
            return np.logical_xor(new, old)
        case "f":
            return np.asarray(new - old)
        case "i" | "u":
            return _of_whole_numbers(name, new, old)
    raise UsageError(f"{name!r}: a difference of {ours} cannot be had", hint=_FULL)


def _of_whole_numbers(name: str, new: Array, old: Array) -> Array:
    with np.errstate(over="ignore"):
        change = np.asarray(new - old)
    if np.any((new < old) != (change < 0)):
        raise UsageError(f"{name!r}: its change cannot be written as {dtype_name(new.dtype)}", hint=_FULL)
    return change
