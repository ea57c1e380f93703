"""Checkpoints of PyTorch and Lightning: their parameters, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch

from flpoc.errors import UsageError

SUFFIXES: Final = (".pt", ".pth", ".ckpt")
#: Under which key a checkpoint that holds more has its parameters; Lightning's, and what tutorials teach.
_KEYS: Final = ("state_dict", "model_state_dict", "model")


def read(path: Path) -> Mapping[str, Any]:
    """The state dict in a file of ``torch.save``; nothing in the file is run (``weights_only``).

    Raises:
        UsageError: It cannot be read so, or there is no state dict in it.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in any way, also by IndexError
        first = str(error).partition("\n")[0][:300]
        raise UsageError(
            f"{path}: its weights cannot be read: {type(error).__name__}: {first}",
            hint="save the state dict alone: torch.save(model.state_dict(), FILE)",
        ) from error
    for key in _KEYS:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
            break
    if not isinstance(found, Mapping) or not any(isinstance(one, torch.Tensor) for one in found.values()):
        raise UsageError(f"{path}: there is no state dict in it", hint="save one: torch.save(model.state_dict(), FILE)")
    return found


def write(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write a state dict as ``torch.save`` does; ``torch.load(path, weights_only=True)`` reads it."""
    with path.open("xb") as file:
        torch.save(dict(tensors), file)
