"""Changing or checking what leaves a site: differential privacy, exclusion, compression."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flpoc.models.tensors import TensorFile


class Filter(ABC):
    """Changes an update before it leaves its site.

    Runs in the site's gate, never beside a job's code. An exception is a
    refusal: nothing leaves the site.
    """

    @abstractmethod
    def apply(self, update: TensorFile, received: TensorFile | None, into: Path) -> None:
        """Write what may leave to the file *into*.

        Args:
            update: What the script sent, mapped from a file.
            received: The model it was trained from; None in a first round without one.
            into: A safetensors file to create.
        """
