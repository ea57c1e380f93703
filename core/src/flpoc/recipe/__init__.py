"""Recipes: an algorithm with its parameters, from Python to a job that runs.

    from flpoc.recipe import NumpyFedAvgRecipe, SimEnv

    recipe = NumpyFedAvgRecipe(min_clients=2, num_rounds=5, train_script="train.py", model=[0.0, 0.0])
    run = recipe.execute(SimEnv(num_clients=2))
    print(run.get_status(), run.get_result())

``PocEnv()`` runs the same with a server and sites on this machine, and
``ProdEnv(startup_kit_location=...)`` at a server that somebody has deployed.
``flpoc recipe export job.py --export-dir jobs`` writes the job folder
``jobs/fedavg``, and ``flpoc job submit -j jobs/fedavg`` runs it. So does
``python job.py --export --export-dir jobs``; a program with a parser of its
own lets it know of these options with :func:`add_export_options`.
"""

from __future__ import annotations

from flpoc.aggregating import ModelAggregator
from flpoc.filtering import FilterSpec
from flpoc.jobs.secrets import secret_file_ref, secret_ref
from flpoc.recipe.cyclic import CyclicRecipe
from flpoc.recipe.described import DescribedModel
from flpoc.recipe.entry import RecipeEntry
from flpoc.recipe.exec_env import ExecEnv
from flpoc.recipe.exporting import add_export_options
from flpoc.recipe.fedavg import FedAvgRecipe
from flpoc.recipe.fedopt import FedOptRecipe
from flpoc.recipe.fedprox import FedProxRecipe
from flpoc.recipe.job import Job
from flpoc.recipe.kinds import DataKind, ExchangeFormat, FrameworkType, TransferType
from flpoc.recipe.numpy_cross_site_eval import NumpyCrossSiteEvalRecipe
from flpoc.recipe.numpy_fedavg import NumpyFedAvgRecipe
from flpoc.recipe.poc_env import PocEnv
from flpoc.recipe.prod_env import ProdEnv
from flpoc.recipe.run import Run
from flpoc.recipe.sim_env import SimEnv
from flpoc.recipe.spec import Recipe
from flpoc.workflows.persisting import ModelPersistor

__all__ = [
    "CyclicRecipe", "DataKind", "DescribedModel", "ExchangeFormat", "ExecEnv", "FedAvgRecipe", "FedOptRecipe",
    "FedProxRecipe", "FilterSpec", "FrameworkType", "Job", "ModelAggregator", "ModelPersistor",
    "NumpyCrossSiteEvalRecipe", "NumpyFedAvgRecipe", "PocEnv", "ProdEnv", "Recipe", "RecipeEntry", "Run", "SimEnv",
    "TransferType", "add_export_options", "secret_file_ref", "secret_ref",
]  # fmt: skip
