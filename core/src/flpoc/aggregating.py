"""Making one model of a round's updates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from flpoc.rebuilding import Rebuildable

if TYPE_CHECKING:
    from flpoc.models.flmodel import FLModel
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
            updates: At least one, in site order; all have the same tensors (names, shapes, dtypes), in a job with
                ``partial = true`` some of those of *base*.
            base: The model that the sites received; None in a first round without one.
            into: A safetensors file to create, in a folder that may be written.

        Raises:
            IntegrityError: A tensor holds values that cannot be averaged (NaN, infinity); names site and tensor.
        """

    def weigh(self, update: Update) -> float:
        """How much an update counts: the weight of its metrics in the mean of a round's."""
        return update.weight

    def state(self) -> bytes:
        """What the next round needs to know besides the model, if that is little; see :meth:`state_file`."""
        return b""

    def restore(self, state: bytes) -> None:
        """Take up what :meth:`state` gave after the last committed round."""

    def state_file(self) -> Path | None:
        """What the next round needs besides the model, if that is as large as the model (momentum, for example).

        A safetensors file that the last :meth:`aggregate` made beside its result. It is taken away when the result is
        committed; one that was opened stays readable.
        """
        return None

    def restore_file(self, file: TensorFile) -> None:
        """Take up the file that was committed with the last round; only if there was one."""


class ModelAggregator(Rebuildable):
    """An aggregator in a job's own code: gets the models of a round one by one, gives one.

    A job names it by the aggregator ``code`` and its settings ``file``, ``name`` and ``args``; a recipe takes an
    object. It is made once, in the controller, with ``args`` as keyword arguments, and must depend on nothing but the
    models it is given: not on the time, not on chance.
    """

    @abstractmethod
    def reset_stats(self) -> None:
        """Begin a round: forget the models of the one before."""

    @abstractmethod
    def accept_model(self, model: FLModel) -> None:
        """Take the update of one site.

        Called once the round is closed, in the order of the sites' names.

        Args:
            model: ``params``: NumPy arrays by name, mapped from a file; bfloat16 comes as float32. ``params_type``:
                FULL or DIFF, the same for all. ``metrics`` and ``meta`` as the site sent them; ``meta`` also has
                ``SITE_NAME`` and ``NUM_STEPS_CURRENT_ROUND``, the weight.
        """

    @abstractmethod
    def aggregate_model(self) -> FLModel:
        """Give the round's model, or the change of the received one if changes (DIFF) were accepted.

        ``params`` must have the names and shapes of those that were accepted; numbers are rounded to their dtypes.
        """

    def state(self) -> bytes:
        """What the next round needs to know, if the controller is started anew in between; at most 2 MiB."""
        return b""

    def restore(self, state: bytes) -> None:
        """Take up what :meth:`state` gave after the last committed round."""
