"""Between a framework's models and tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

#: Packages whose adapter has another name than they have.
_ADAPTERS = {"tensorflow": "tf", "keras": "tf"}
#: Where types come from that belong to no framework.
_NOBODYS = ("builtins", "__main__", "abc", "collections", "typing")


class Framework(ABC):
    """Turns a framework's parameters into NumPy arrays and back, without losing a bit.

    A script hands over what it has: ``flare.send(FLModel(params=model))``.
    A plugin recognises it (``flpoc_framework_for``), and the adapter that it
    names makes arrays of it. What a script receives are arrays.
    """

    @abstractmethod
    def to_arrays(self, params: Any) -> Mapping[str, np.ndarray[Any, Any]]:
        """Give the parameters as named arrays; dtypes and shapes are kept."""

    @abstractmethod
    def from_arrays(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Any:
        """Give arrays back as the framework's parameters; memory is shared where possible."""

    def seed(self, value: int) -> None:
        """Let the framework draw the same numbers whenever it is given the same seed (0 <= seed < 2**32)."""


def package_for(kind: type) -> str:
    """Which package would know parameters of this type, by the names of packages; empty if that says nothing."""
    for one in kind.__mro__:
        top = one.__module__.partition(".")[0]
        if top not in _NOBODYS:
            return f"flpoc-framework-{_ADAPTERS.get(top, top)}"
    return ""
