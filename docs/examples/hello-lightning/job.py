"""Federated averaging of a Lightning model over two sites, simulated in this machine."""

import torch
from model import LitNet

from flpoc.recipe import SimEnv
from flpoc_framework_torch.recipes import FedAvgRecipe

torch.manual_seed(0)
recipe = FedAvgRecipe(name="hello-lightning", model=LitNet(), min_clients=2, num_rounds=5, train_script="client.py")
print(recipe.execute(SimEnv(num_clients=2)).get_result())
