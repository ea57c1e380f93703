"""Scripts in the shape that a comparable system teaches for NumPy run with only their import lines changed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from flpoc.models.tensors import TensorFile
from flpoc.recipe import NumpyFedAvgRecipe, PocEnv, SimEnv
from flpoc.recipe.utils import add_cross_site_evaluation

#: Import lines of the comparable system, and what becomes of them.
IMPORTS = {
    "import nvflare.client as flare": "import flpoc.client as flare",
    "from nvflare.app_common.abstract.fl_model import FLModel, ParamsType": (
        "from flpoc.client import FLModel, ParamsType"
    ),
    "from nvflare.app_common.np.constants import NPConstants": "from flpoc.client import NPConstants",
    "from nvflare.client.tracking import SummaryWriter": "from flpoc.client.tracking import SummaryWriter",
}

TRAINS = """
import argparse

import numpy as np

import nvflare.client as flare
from nvflare.app_common.np.constants import NPConstants
from nvflare.client.tracking import SummaryWriter


def make_data(site, count):
    rng = np.random.default_rng(int(site[-1]))
    x = rng.standard_normal((count, 3))
    return x, x @ np.array([1.0, -2.0, 0.5])


def evaluate(weights, x, y):
    return {"mse": np.mean((x @ weights - y) ** 2)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--update_type", choices=["full", "diff"], default="full")
    parser.add_argument("--steps", type=int, default=5)
    args = parser.parse_args()

    flare.init()
    system = flare.system_info()
    site_name = system["site_name"]
    print(f"site={site_name}, job={system['job_id']}")
    x, y = make_data(site_name, 40)
    summary_writer = SummaryWriter()

    while flare.is_running():
        input_model = flare.receive()
        print(f"site={site_name}, current_round={input_model.current_round}, total={input_model.total_rounds}")
        if NPConstants.NUMPY_KEY in input_model.params:
            received = input_model.params[NPConstants.NUMPY_KEY]
        else:
            received = np.zeros(3)

        metrics = evaluate(received, x, y)
        summary_writer.add_scalar(tag="mse", scalar=metrics["mse"], global_step=input_model.current_round)
        weights = received.copy()
        for _ in range(args.steps):
            weights -= 0.2 * x.T @ (x @ weights - y) / len(x)

        if args.update_type == "diff":
            params, params_type = weights - received, flare.ParamsType.DIFF
        else:
            params, params_type = weights, flare.ParamsType.FULL
        output_model = flare.FLModel(
            params={NPConstants.NUMPY_KEY: params},
            params_type=params_type,
            metrics=metrics,
            current_round=input_model.current_round,
            meta={"NUM_STEPS_CURRENT_ROUND": args.steps},
        )
        flare.send(output_model)


if __name__ == "__main__":
    main()
"""

BRANCHES = """
import copy

import numpy as np

import nvflare.client as flare
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType

flare.init()
site = flare.get_site_name()
target = np.full(4, int(site[-1]), dtype=np.float32)
best_model, best_loss = None, float("inf")

while flare.is_running():
    input_model = flare.receive()
    weights = input_model.params["numpy_key"]
    loss = float(np.abs(weights - target).mean())
    if flare.is_train():
        print(f"({site}) current_round={input_model.current_round}, total_rounds={input_model.total_rounds}")
        weights = weights + 0.5 * (target - weights)
        local_loss = float(np.abs(weights - target).mean())
        if local_loss < best_loss:
            best_model, best_loss = copy.deepcopy(weights), local_loss
        flare.send(FLModel(params_type=ParamsType.FULL, params={"numpy_key": weights}, metrics={"loss": loss}))
    elif flare.is_evaluate():
        flare.send(FLModel(metrics={"loss": loss}))
    elif flare.is_submit_model():
        flare.send(FLModel(params_type=ParamsType.FULL, params={"numpy_key": best_model}))
"""


@pytest.fixture
def changed(tmp_path, monkeypatch):
    """Write a script with its import lines changed and nothing else, in a folder of its author."""

    def write(script: str) -> None:
        lines = script.splitlines()
        (tmp_path / "client.py").write_text("\n".join(IMPORTS.get(line, line) for line in lines))
        assert {line for line in lines if "nvflare" in line} <= set(IMPORTS)
        assert "nvflare" not in (tmp_path / "client.py").read_text()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLPOC_SIMULATOR_WORKSPACE_ROOT", str(tmp_path / "sim"))
    return write


def environments():
    return SimEnv(num_clients=2), SimEnv(num_clients=2, num_threads=1), PocEnv(num_clients=2)


def model(folder: str) -> np.ndarray:
    with TensorFile.open(Path(folder) / "FL_global_model.safetensors") as found:
        assert found.names == ("numpy_key",)
        return np.array(found["numpy_key"])


@pytest.mark.parametrize(("kind", "start"), [("full", [0.0] * 3), ("full", None), ("diff", [0.0] * 3)])
def test_a_script_that_trains(home, changed, kind, start):
    changed(TRAINS)
    found = []
    for env in environments():
        recipe = NumpyFedAvgRecipe(
            name="hello-numpy", model=start, min_clients=2, num_rounds=8, train_script="client.py",
            train_args=f"--update_type {kind} --steps 4", key_metric="mse", key_metric_mode="min",
        )  # fmt: skip
        run = recipe.execute(env)
        folder = run.get_result()
        assert run.get_status() == "FINISHED:COMPLETED"
        found.append(model(folder))
        rounds = [json.loads(line) for line in (Path(folder) / "round_metrics.jsonl").read_text().splitlines()]
        assert rounds[-1]["metrics"]["mse"] < 0.01 * rounds[0]["metrics"]["mse"]
    assert np.allclose(found[0], [1.0, -2.0, 0.5], atol=0.05)
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_a_script_that_branches_by_task(home, changed):
    changed(BRANCHES)
    results = []
    for env in (SimEnv(num_clients=2), PocEnv(num_clients=2)):
        recipe = NumpyFedAvgRecipe(
            name="branches", model=[0.0] * 4, min_clients=2, num_rounds=3, train_script="client.py",
            key_metric="loss", key_metric_mode="min",
        )  # fmt: skip
        add_cross_site_evaluation(recipe)
        folder = recipe.execute(env).get_result()
        results.append(json.loads((Path(folder) / "cross_site_val" / "cross_val_results.json").read_text()))
        assert np.allclose(model(folder), 1.5 * (1 - 0.5**3))
    assert results[0] == results[1]
    assert set(results[0]) == {"site-1", "site-2"}
    assert {"server", "site-1", "site-2"} <= set(results[0]["site-1"])
    for site, other in (("site-1", "site-2"), ("site-2", "site-1")):
        assert results[0][site][site]["loss"] < results[0][site][other]["loss"]
