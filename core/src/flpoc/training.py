"""Between a framework's models and tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from flpoc.errors import PluginError, UsageError

if TYPE_CHECKING:
    import numpy as np

    from flpoc.plugins import Plugins

#: Packages whose adapter has another name than they have.
_ADAPTERS = {"tensorflow": "tf", "keras": "tf", "pytorch_lightning": "torch", "lightning": "torch"}
#: Where types come from that belong to no framework.
_NOBODYS = ("builtins", "__main__", "abc", "collections", "typing")


class Framework(ABC):
    """Turns a framework's parameters into NumPy arrays and back, without losing a bit.

    A script hands over what it has: ``flare.send(FLModel(params=model))``.
    A plugin recognises it (``flpoc_framework_for``), and the adapter that it
    names makes arrays of it. What a script receives are arrays, or, where
    its job names the framework, the framework's own parameters.

    Attributes:
        checkpoints: Suffixes of the files that it reads and writes, such as ``.pt``.
    """

    checkpoints: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def to_arrays(self, params: Any) -> Mapping[str, np.ndarray[Any, Any]]:
        """Give the parameters as named arrays; dtypes and shapes are kept.

        Raises:
            UsageError: Something in it is no array of numbers; the message names it.
        """

    @abstractmethod
    def from_arrays(self, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Any:
        """Give arrays back as the framework's parameters; memory is shared where possible.

        Arrays that must not be written to are copied, or stay so.

        Raises:
            UsageError: The framework has no numbers of a dtype; the message names the array.
        """

    def seed(self, value: int) -> None:
        """Let the framework draw the same numbers whenever it is given the same seed (0 <= seed < 2**32)."""

    def read_checkpoint(self, path: Path) -> Mapping[str, np.ndarray[Any, Any]]:
        """Read the parameters in a file of the framework. Nothing that the file holds is run.

        Raises:
            UsageError: There are no parameters in it, or it cannot be read without running what it holds.
        """
        raise UsageError(f"{path}: {type(self).__name__} reads no files")

    def write_checkpoint(self, arrays: Mapping[str, np.ndarray[Any, Any]], path: Path) -> None:
        """Write parameters as a new file of the framework, and nothing else.

        Raises:
            UsageError: The framework has no such file.
        """
        raise UsageError(f"{path}: {type(self).__name__} writes no files")

    def patch(self, trainer: Any, options: Mapping[str, Any]) -> None:
        """Let a trainer of the framework receive and send by itself, through :mod:`flpoc.client`.

        Raises:
            UsageError: It is no such trainer, or there is no such option.
        """
        raise UsageError(f"{type(trainer).__name__} cannot be patched: receive and send yourself")


def framework_for_file(plugins: Plugins, path: Path | str) -> Framework:
    """The framework that reads and writes files with this suffix.

    Raises:
        PluginError: None does; what is wrong with those that cannot be made is in the hint.
    """
    suffix = Path(path).suffix.lower()
    troubles = list(plugins.troubles)
    known = [".safetensors", ".npz"]
    for offer in plugins.offers("frameworks"):
        try:
            found: Framework = plugins.create("frameworks", offer.name)
        except PluginError as error:
            troubles.append(f"{error.message}; {error.hint}")
            continue
        if suffix in found.checkpoints:
            return found
        known += found.checkpoints
    raise PluginError(
        f"{Path(path).name}: no framework of this project reads {suffix or 'a file without suffix'}",
        hint="; ".join([f"known are {', '.join(known)}", *troubles]),
    )


def package_for(kind: type) -> str:
    """Which package would know parameters of this type, by the names of packages; empty if that says nothing."""
    for one in kind.__mro__:
        top = one.__module__.partition(".")[0]
        if top not in _NOBODYS:
            return f"flpoc-framework-{_ADAPTERS.get(top, top)}"
    return ""
