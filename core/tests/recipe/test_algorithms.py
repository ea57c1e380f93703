"""Every recipe, run, gives what a plain loop gives that shares no code with it."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import numpy as np
import pytest

from flpoc.errors import JobError
from flpoc.models.tensors import TensorFile
from flpoc.recipe import (
    CyclicRecipe,
    FedAvgRecipe,
    FedOptRecipe,
    FedProxRecipe,
    ModelAggregator,
    NumpyCrossSiteEvalRecipe,
    NumpyFedAvgRecipe,
    PocEnv,
    ProdEnv,
)  # fmt: skip
from flpoc.recipe.utils import add_cross_site_evaluation, add_final_global_evaluation

#: Each site's loss is half the squared distance to its centre, and each takes so many steps.
CENTRES = {"site-1": np.array([1.0, 2.0]), "site-2": np.array([-3.0, 5.0])}
STEPS = {"site-1": 3, "site-2": 1}
START = np.array([0.5, -0.5])
RATE = 0.1

SCRIPT = f"""
    import numpy as np
    import flpoc.client as flare

    CENTRES = {{name: np.array(value) for name, value in { ({k: v.tolist() for k, v in CENTRES.items()}) }.items()}}
    flare.init()
    site = flare.get_site_name()
    while flare.is_running():
        model = flare.receive()
        if flare.is_submit_model():
            flare.send(flare.FLModel(params={{"w": CENTRES[site]}}))
            continue
        received = w = np.array(model.params["w"])
        metrics = {{"loss": float(((w - CENTRES[site]) ** 2).sum() / 2)}}
        if flare.is_evaluate():
            flare.send(flare.FLModel(metrics=metrics))
            continue
        for _ in range({STEPS}[site]):
            w = w - {RATE} * ((w - CENTRES[site]) + model.meta.get("fedprox_mu", 0.0) * (w - received))
        flare.send(flare.FLModel(params={{"w": w}}, metrics=metrics, meta={{"NUM_STEPS_CURRENT_ROUND": {STEPS}[site]}}))
"""
AGGREGATOR = '''
    """An aggregator and a persistor of our own."""
    import numpy as np
    from flpoc.client import FLModel
    from flpoc.recipe import ModelAggregator, ModelPersistor

    class Largest(ModelAggregator):
        """The largest of each number, times a factor."""
        def __init__(self, factor):
            self.factor = factor
        def reset_stats(self):
            self.found = []
        def accept_model(self, model):
            self.found.append(model.params["w"])
        def aggregate_model(self):
            return FLModel(params={"w": self.factor * np.max(self.found, axis=0)})

    class Fixed(ModelPersistor):
        """A model that is written out."""
        def __init__(self, values):
            self.values = values
        def load_model(self):
            return FLModel(params={"w": np.array(self.values)})
        def save_model(self, model): ...
'''


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    (tmp_path / "train.py").write_text(textwrap.dedent(SCRIPT))
    (tmp_path / "largest.py").write_text(textwrap.dedent(AGGREGATOR))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.fixture
def run(project, home, deployment):
    """Run a recipe at the server; gives its results."""
    return lambda recipe: Path(recipe.execute(ProdEnv(startup_kit_location=str(deployment.kit()))).get_result())


def given(**more):
    return {"min_clients": 2, "num_rounds": 3, "train_script": "train.py", "model": {"w": START}, **more}


def final(results: Path, name: str = "FL_global_model.safetensors") -> np.ndarray:
    with TensorFile.open(results / name) as model:
        return np.array(model["w"])


def trained(w: np.ndarray, site: str, mu: float = 0.0) -> np.ndarray:
    """In closed form: a step shrinks the distance to where the site's loss with its proximal term is least."""
    least = (CENTRES[site] + mu * w) / (1 + mu)
    return least + (1 - RATE * (1 + mu)) ** STEPS[site] * (w - least)


def mean(found: dict[str, np.ndarray]) -> np.ndarray:
    return sum(STEPS[site] * value for site, value in found.items()) / sum(STEPS.values())


def averaged(rounds: int, mu: float = 0.0) -> np.ndarray:
    w = START
    for _ in range(rounds):
        w = mean({site: trained(w, site, mu) for site in CENTRES})
    return w


@pytest.mark.parametrize("cls", [NumpyFedAvgRecipe, FedAvgRecipe])
def test_federated_averaging(run, cls):
    framework = {"framework": "numpy"} if cls is FedAvgRecipe else {}
    results = run(cls(**given(key_metric="loss", key_metric_mode="min", **framework)))
    np.testing.assert_allclose(final(results), averaged(3), rtol=1e-12)


def test_a_condition_ends_it_at_the_first_model_that_satisfies_it(run):
    losses = [mean({s: ((averaged(r) - c) ** 2).sum() / 2 for s, c in CENTRES.items()}) for r in range(6)]
    enough = (losses[2] + losses[1]) / 2
    recipe = NumpyFedAvgRecipe(**given(num_rounds=9, key_metric="loss", stop_cond=f"loss <= {enough}"))
    results = run(recipe)
    rounds = len((results / "round_metrics.jsonl").read_text().splitlines())
    assert rounds < 9
    np.testing.assert_allclose(final(results, "best_FL_global_model.safetensors"), averaged(2), rtol=1e-12)


def test_fedprox_holds_sites_near_the_model_they_received(run):
    np.testing.assert_allclose(final(run(FedProxRecipe(**given(fedprox_mu=0.7)))), averaged(3, 0.7), rtol=1e-12)


@pytest.mark.parametrize("optimizer", ["adam", "yogi", "adagrad", "sgd"])
def test_fedopt_steps_along_the_mean_change(run, optimizer):
    lr, first, second, tau, momentum = 0.3, 0.8, 0.95, 1e-2, 0.6
    args = {"lr": lr, "momentum": momentum} if optimizer == "sgd" else {"lr": lr, "betas": [first, second], "tau": tau}
    results = run(FedOptRecipe(**given(optimizer=optimizer, optimizer_args=args)))
    w, m, v = START, np.zeros(2), np.full(2, tau**2)
    for _ in range(3):
        change = mean({site: trained(w, site) - w for site in CENTRES})
        if optimizer == "sgd":
            m = momentum * m + change
            w = w + lr * m
            continue
        m = first * m + (1 - first) * change
        square = change**2
        v = {
            "adam": second * v + (1 - second) * square,
            "yogi": v - (1 - second) * square * np.sign(v - square),
            "adagrad": v + square,
        }[optimizer]
        w = w + lr * m / (np.sqrt(v) + tau)
    np.testing.assert_allclose(final(results), w, rtol=1e-9)


def test_cyclic_trains_on_from_site_to_site(run):
    w = START
    for _ in range(3):
        for site in sorted(CENTRES):
            w = trained(w, site)
    np.testing.assert_allclose(final(run(CyclicRecipe(**given()))), w, rtol=1e-12)


def test_a_robust_aggregator_by_its_name(run):
    results = run(NumpyFedAvgRecipe(**given(num_rounds=1, aggregator="median")))
    found = np.median([trained(START, site) for site in CENTRES], axis=0)
    np.testing.assert_allclose(final(results), found, rtol=1e-12)


def test_weights_and_exclusions_of_the_mean(run):
    results = run(NumpyFedAvgRecipe(**given(num_rounds=1, aggregation_weights={"site-2": 3.0})))
    found = (3 * trained(START, "site-1") + 3 * trained(START, "site-2")) / 6
    np.testing.assert_allclose(final(results), found, rtol=1e-12)
    results = run(NumpyFedAvgRecipe(**given(num_rounds=1, exclude_vars="^w$")))
    assert final(results).tolist() == START.tolist()


def test_an_aggregator_and_a_persistor_of_ones_own(run):
    import largest

    made: ModelAggregator = largest.Largest(0.5)
    persistor = largest.Fixed(START.tolist())
    results = run(NumpyFedAvgRecipe(**given(num_rounds=1, model=None, aggregator=made, model_persistor=persistor)))
    found = 0.5 * np.maximum(*(trained(START, site) for site in CENTRES))
    np.testing.assert_allclose(final(results), found, rtol=1e-12)


def loss(w: np.ndarray, site: str) -> float:
    return float(((w - CENTRES[site]) ** 2).sum() / 2)


def judged(results: Path) -> dict[str, dict[str, float]]:
    said = json.loads((results / "cross_site_val" / "cross_val_results.json").read_text())
    return {site: {owner: metrics["loss"] for owner, metrics in found.items()} for site, found in said.items()}


def test_cross_site_evaluation_after_the_training(run):
    recipe = NumpyFedAvgRecipe(**given(key_metric="loss", key_metric_mode="min"))
    add_cross_site_evaluation(recipe)
    found = judged(run(recipe))
    for site in CENTRES:
        assert found[site]["server"] == pytest.approx(loss(averaged(3), site))
        for owner, centre in CENTRES.items():
            assert found[site][owner] == pytest.approx(loss(centre, site))


def test_the_final_model_is_judged_by_every_site_after_the_training(run):
    recipe = NumpyFedAvgRecipe(**given(key_metric="loss", key_metric_mode="min"))
    add_final_global_evaluation(recipe)
    assert judged(run(recipe)) == {site: {"server": pytest.approx(loss(averaged(3), site))} for site in CENTRES}


ONLY_TRAINS = """
    import flpoc.client as flare

    flare.init()
    while flare.is_running():
        model = flare.receive()
        if flare.is_train():
            flare.send(flare.FLModel(params=model.params, metrics={"loss": 1.0}))
"""


def test_a_script_that_serves_no_evaluation_is_said_at_once(project, run):
    (project / "only.py").write_text(textwrap.dedent(ONLY_TRAINS))
    recipe = NumpyCrossSiteEvalRecipe(min_clients=2, eval_script="only.py", model={"w": START})
    with pytest.raises(JobError) as caught:
        run(recipe)
    assert "round 1: the task is 'submit_model', and the script asks only for 'train'" in caught.value.message
    assert "elif flare.is_submit_model(): flare.send(" in caught.value.message


def test_cross_site_evaluation_alone(run):
    found = judged(run(NumpyCrossSiteEvalRecipe(min_clients=2, eval_script="train.py", model={"w": START})))
    for site in CENTRES:
        assert found[site] == {
            "server": pytest.approx(loss(START, site)),
            **{owner: pytest.approx(loss(centre, site)) for owner, centre in CENTRES.items()},
        }


def test_a_checkpoint_of_this_machine_is_granted_by_a_poc_of_its_own(project, home):
    (project / "checkpoints").mkdir()
    path = project / "checkpoints" / "start.npz"
    np.savez(path, w=START)
    recipe = NumpyFedAvgRecipe(**given(model=None, num_rounds=1, initial_ckpt=str(path)))
    results = Path(recipe.execute(PocEnv(clients=["site-1", "site-2"])).get_result())
    np.testing.assert_allclose(final(results), averaged(1), rtol=1e-12)
