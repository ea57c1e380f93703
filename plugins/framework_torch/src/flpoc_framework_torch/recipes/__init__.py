"""Recipes for models of PyTorch."""

from __future__ import annotations

from flpoc_framework_torch.recipes.cyclic import CyclicRecipe
from flpoc_framework_torch.recipes.fedavg import FedAvgRecipe
from flpoc_framework_torch.recipes.fedeval import FedEvalRecipe
from flpoc_framework_torch.recipes.fedopt import FedOptRecipe
from flpoc_framework_torch.recipes.fedprox import FedProxRecipe

__all__ = ["CyclicRecipe", "FedAvgRecipe", "FedEvalRecipe", "FedOptRecipe", "FedProxRecipe"]
