"""A model that a recipe only describes is made in the controller, with the same first weights wherever that is."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from flpoc.recipe import PocEnv, SimEnv
from flpoc_framework_torch.recipes import FedAvgRecipe

SCRIPT = """
    import flpoc.client as flare

    flare.init()
    while flare.is_running():
        model = flare.receive()
        params = {name: value + 1 for name, value in model.params.items()}
        flare.send(flare.FLModel(params=params, metrics={"accuracy": 0.5}))
"""
NET = """
    import torch

    class Net(torch.nn.Module):
        def __init__(self, width):
            super().__init__()
            self.layer = torch.nn.Linear(width, 2)
"""


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FLPOC_POC_WORKSPACE", str(tmp_path / "poc"))
    (tmp_path / "train.py").write_text(textwrap.dedent(SCRIPT))
    (tmp_path / "net.py").write_text(textwrap.dedent(NET))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def results(env, seed: int, described: dict) -> Path:
    recipe = FedAvgRecipe(
        min_clients=2, num_rounds=1, train_script="train.py", model=described, seed=seed, best_model_filename="best.pt"
    )
    return Path(recipe.execute(env).get_result())


def digest(found: Path) -> str:
    return hashlib.sha256((found / "FL_global_model.safetensors").read_bytes()).hexdigest()


def test_the_seed_decides_its_weights_in_a_simulation_and_in_a_poc(project):
    described = {"class_path": "net.Net", "args": {"width": 3}}
    first = results(SimEnv(num_clients=2, workspace_root="one"), 1, described)
    again = results(SimEnv(num_clients=2, workspace_root="two"), 1, described)
    other = results(SimEnv(num_clients=2, workspace_root="three"), 2, described)
    real = results(PocEnv(num_clients=2), 1, described)
    assert digest(first) == digest(again) == digest(real)
    assert digest(first) != digest(other)
    best = torch.load(first / "best.pt", weights_only=True)
    assert {name: tuple(value.shape) for name, value in best.items()} == {"layer.weight": (2, 3), "layer.bias": (2,)}


def test_a_class_of_the_framework_itself_can_be_described(project):
    described = {"class_path": "torch.nn.Linear", "args": {"in_features": 4, "out_features": 1}}
    found = results(SimEnv(num_clients=2, workspace_root="out"), 0, described)
    assert set(torch.load(found / "best.pt", weights_only=True)) == {"weight", "bias"}


def test_describing_a_model_imports_nothing_of_it(project):
    code = (
        "import sys; from flpoc.recipe import FedAvgRecipe;"
        "FedAvgRecipe(min_clients=1, train_script='train.py', model={'class_path': 'net.Net', 'args': {'width': 1}});"
        "print([name for name in ('torch', 'net') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
