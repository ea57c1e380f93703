"""Where a job's models come from and go to, in the job's own code."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from flpoc.rebuilding import Rebuildable

if TYPE_CHECKING:
    from flpoc.models.flmodel import FLModel


class ModelPersistor(Rebuildable):
    """Loads the model that a job starts from, and is told of every model that is committed.

    A job names it by the setting ``persistor`` of its workflow; a recipe takes an object. It is made once, in the
    controller.
    """

    @abstractmethod
    def load_model(self) -> FLModel | None:
        """Give the model to start from, NumPy arrays by name as ``params``; None: the sites start from their own."""

    @abstractmethod
    def save_model(self, model: FLModel) -> None:
        """Hear of a model that was committed; its arrays are mapped from a file and must not be written to."""
