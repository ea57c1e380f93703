"""Between PyTorch and NumPy, bit by bit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import torch

from flpoc.errors import UsageError
from flpoc.models.tensors import BFLOAT16, dtype_name, numpy_dtype
from flpoc.training import Framework
from flpoc_framework_torch import checkpoints

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

#: What NumPy has no dtype for: the integers of the same size whose bits stand in, and how core calls them.
_OPAQUE: Final = {
    torch.bfloat16: (torch.int16, BFLOAT16),
    torch.float8_e4m3fn: (torch.uint8, numpy_dtype("F8_E4M3")),
    torch.float8_e5m2: (torch.uint8, numpy_dtype("F8_E5M2")),
}
_NATIVE: Final = {opaque: native for native, (_, opaque) in _OPAQUE.items()}


class TorchFramework(Framework):
    """Models, state dicts and dicts of tensors.

    Tensors that share their memory, such as tied weights, travel under each
    of their names; loaded into a model with ``load_state_dict``, they are
    tied as before. Buffers travel, too. What wrappers add to names
    (``DistributedDataParallel``, ``torch.compile``) is left out.
    """

    checkpoints = checkpoints.SUFFIXES

    def to_arrays(self, params: Any) -> Mapping[str, Array]:
        if isinstance(params, torch.nn.Module):
            params = _unwrapped(params).state_dict()
        if not isinstance(params, Mapping):
            kind = type(params)
            raise UsageError(
                f"params must be a model or its state dict, not {kind.__module__}.{kind.__qualname__}",
                hint="send model.state_dict()",
            )
        return {name: _array(name, value) for name, value in params.items()}

    def seed(self, value: int) -> None:
        torch.manual_seed(value)

    def read_checkpoint(self, path: Path) -> Mapping[str, Array]:
        return self.to_arrays(checkpoints.read(path))

    def write_checkpoint(self, arrays: Mapping[str, Array], path: Path) -> None:
        checkpoints.write(self.from_arrays(arrays), path)

    def patch(self, trainer: Any, options: Mapping[str, Any]) -> None:
        from flpoc_framework_torch.lightning import patch

        patch(trainer, **options)

    def from_arrays(self, arrays: Mapping[str, Array]) -> dict[str, torch.Tensor]:
        return {name: _tensor(name, value) for name, value in arrays.items()}


def _unwrapped(model: torch.nn.Module) -> torch.nn.Module:
    """The model itself, inside of what spreads or compiles it."""
    while True:
        if isinstance(model, (torch.nn.parallel.DistributedDataParallel, torch.nn.DataParallel)):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), torch.nn.Module):
            model = inner
        else:
            return model


def _array(name: Any, value: Any) -> Array:
    if not isinstance(value, torch.Tensor):
        array = np.asarray(value)
        if dtype_name(array.dtype):
            return array
        raise UsageError(
            f"{name!r} is {type(value).__name__}, no tensor",
            hint="send tensors by name, such as model.state_dict(); leave out what is none",
        )
    if why := _cannot_travel(value):
        raise UsageError(f"{name!r} is {why[0]}, which cannot be sent", hint=why[1])
    try:
        found = value.detach().cpu().resolve_neg()
        if opaque := _OPAQUE.get(found.dtype):
            return np.asarray(found.view(opaque[0]).numpy().view(opaque[1]))
        array = np.asarray(found.numpy())
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        raise UsageError(f"{name!r} ({value.dtype}) cannot be sent: {error}") from error
    if dtype_name(array.dtype):
        return array
    raise UsageError(f"{name!r} is a tensor of {value.dtype}, which no model file can hold")


def _cannot_travel(value: torch.Tensor) -> tuple[str, str] | None:
    """What a tensor is that is no plain array of numbers, and what to do about it."""
    if torch.nn.parameter.is_lazy(value):
        return "a parameter without a shape yet", "run the model once on a batch before it is sent"
    if value.is_meta:
        return "a tensor without data (device meta)", "load or initialise the model first"
    if hasattr(value, "full_tensor"):
        return "spread over several processes (DTensor)", "send full_tensor() of it, from one process"
    if value.layout != torch.strided or value.is_nested:
        return f"a tensor of layout {value.layout}", "send to_dense() of it"
    if value.is_quantized:
        return f"quantised ({value.dtype})", "send dequantize() of it"
    if value.is_complex():
        return f"complex ({value.dtype})", "send torch.view_as_real() of it; the mean is taken of real numbers"
    return None


def _tensor(name: Any, value: Any) -> torch.Tensor:
    array = np.asarray(value)
    known = dtype_name(array.dtype)
    if not known:
        raise UsageError(f"{name!r} is an array of {array.dtype}, of which there are no tensors")
    dtype = numpy_dtype(known)
    if array.dtype.byteorder == ">":
        array = array.astype(dtype)
    array = array.view(dtype)  # what other packages call bfloat16 has the same bits
    if not _can_be_shared(array):
        array = array.copy(order="C")
    try:
        native = _NATIVE.get(array.dtype)
        if native is None:
            return torch.from_numpy(array)
        return torch.from_numpy(array.view(f"i{array.itemsize}")).view(native)
    except (TypeError, RuntimeError, ValueError) as error:
        raise UsageError(f"{name!r} ({array.dtype}) cannot be made a tensor: {error}") from error


def _can_be_shared(array: Array) -> bool:
    """Whether a tensor may look into the same memory: it is one that may be written to, and walked in whole items."""
    flags, size = array.flags, array.itemsize
    return flags.writeable and flags.aligned and all(step >= 0 and step % size == 0 for step in array.strides)
