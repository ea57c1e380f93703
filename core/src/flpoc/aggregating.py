"""Making one model of a round's updates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from flpoc.models.tensors import TensorFile


@attrs.frozen
class Update:
    """What one site sent in one round.

    Attributes:
        site: Who sent it.
        weight: How much it counts, > 0; usually the number of training steps or samples.
        model: Its tensors, mapped from a file: nothing is in memory until it is read.
        params_type: ``FULL``: the tensors are a model. ``DIFF``: they are a change of the received model.
        metrics: Finite numbers by name, about the received model unless ``meta`` says otherwise.
        meta: What else the script sent; plain JSON data.
    """

    site: str
    weight: float
    model: TensorFile
    params_type: str = "FULL"
    metrics: dict[str, float] = attrs.field(factory=dict)
    meta: dict[str, Any] = attrs.field(factory=dict)


class Aggregator(ABC):
    """Makes one model of a round's updates.

    The result may depend on the updates and their order, which is the order
    of the sites' names in the job, and on nothing else: not on the time, not
    on the order of arrival.
    """

    @abstractmethod
    def aggregate(self, updates: Sequence[Update], base: TensorFile | None, into: Path) -> None:
        """Write the new model to the file *into*.

        Args:
            updates: At least one, in site order; all have the same tensors (names, shapes, dtypes).
            base: The model that the sites received; None in a first round without one.
            into: A safetensors file to create, in a folder that may be written.

        Raises:
            IntegrityError: A tensor holds values that cannot be averaged (NaN, infinity); names site and tensor.
        """

    def state(self) -> bytes:
        """What the next round needs to know besides the model (momentum, for example)."""
        return b""

    def restore(self, state: bytes) -> None:
        """Take up what :meth:`state` gave after the last committed round."""
