"""Between a framework's models and tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


class Framework(ABC):
    """Turns a framework's parameters into NumPy arrays and back, without losing a bit."""

    @abstractmethod
    def to_arrays(self, params: Any) -> Mapping[str, np.ndarray[Any, Any]]:
        """Give the parameters as named arrays; dtypes and shapes are kept."""

    @abstractmethod
    def from_arrays(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Any:
        """Give arrays back as the framework's parameters; memory is shared where possible."""
