"""Federated averaging on two sites: `python job.py`, or with `poc` as in production."""

import sys

from model import new_model

from flpoc.recipe import NumpyFedAvgRecipe, PocEnv, SimEnv

recipe = NumpyFedAvgRecipe(
    name="hello-numpy",
    model=new_model(),
    min_clients=2,
    num_rounds=20,
    train_script="client.py",
    train_args="2",
)
run = recipe.execute(PocEnv(num_clients=2) if "poc" in sys.argv else SimEnv(num_clients=2))
result = run.get_result()
print("status:", run.get_status())
print("result:", result)
