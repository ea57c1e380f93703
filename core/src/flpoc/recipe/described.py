"""A model that a recipe describes by its class, made where the job's code is run."""

from __future__ import annotations

from typing import Any, ClassVar

from flpoc.models.flmodel import FLModel
from flpoc.workflows.persisting import ModelPersistor


class DescribedModel(ModelPersistor):
    """Makes the model to start from of a class; recipes write a class that inherits from this into the job.

    Args:
        args: Keyword arguments that the model is made with.
        framework: Name of the adapter that makes arrays of it.
        seed: From which its first weights are drawn.
    """

    #: What is made.
    model_class: ClassVar[Any]

    def __init__(self, args: dict[str, Any], framework: str, seed: int) -> None:
        self._args = args
        self._framework = framework
        self._seed = seed

    def load_model(self) -> FLModel | None:
        """Make the model; the same seed gives the same weights."""
        import numpy as np

        from flpoc.recipe.start import installed

        adapter = installed().create("frameworks", self._framework)
        seed = self._seed % (1 << 32)
        np.random.seed(seed)
        adapter.seed(seed)
        return FLModel(params=dict(adapter.to_arrays(self.model_class(**self._args))))

    def save_model(self, model: FLModel) -> None:
        """Do nothing: the results have it."""
