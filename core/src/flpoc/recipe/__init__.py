"""Recipes: an algorithm with its parameters, from Python to a job.

    from flpoc.recipe import NumpyFedAvgRecipe

    recipe = NumpyFedAvgRecipe(min_clients=2, num_rounds=5, train_script="train.py", model=[0.0, 0.0])
    recipe.execute()

``flpoc recipe export job.py --export-dir jobs`` writes the job folder
``jobs/fedavg``, and ``flpoc job submit -j jobs/fedavg`` runs it. So does
``python job.py --export --export-dir jobs``; a program with a parser of its
own lets it know of these options with :func:`add_export_options`.
"""

from __future__ import annotations

from flpoc.recipe.entry import RecipeEntry
from flpoc.recipe.exporting import add_export_options
from flpoc.recipe.numpy_fedavg import NumpyFedAvgRecipe
from flpoc.recipe.recipe import Recipe

__all__ = ["NumpyFedAvgRecipe", "Recipe", "RecipeEntry", "add_export_options"]
