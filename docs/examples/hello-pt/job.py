"""Federated averaging of a PyTorch model over two sites, simulated in this machine."""

import torch
from model import Net

from flpoc.recipe import SimEnv
from flpoc_framework_torch.recipes import FedAvgRecipe

torch.manual_seed(0)
recipe = FedAvgRecipe(name="hello-pt", model=Net(), min_clients=2, num_rounds=10, train_script="client.py")
print(recipe.execute(SimEnv(num_clients=2)).get_result())
