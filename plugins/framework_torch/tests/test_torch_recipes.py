"""Recipes for PyTorch make jobs, which give what a plain loop gives."""

from __future__ import annotations

import copy
import inspect
import json
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import flpoc.recipe
from flpoc.models.tensors import TensorFile
from flpoc.plugins import Plugins
from flpoc.recipe import SimEnv
from flpoc.recipe.catalogue import catalogue
from flpoc.recipe.utils import add_cross_site_evaluation
from flpoc.settings import structure
from flpoc.workflows.schedules import LrSchedule
from flpoc_framework_torch import recipes

ALL = [getattr(recipes, name) for name in recipes.__all__]
#: One step of gradient descent on a linear model; each site has its own points.
CLIENT = """
    import sys

    import torch
    from parts import loss, points

    import flpoc.client as flare
    from flpoc_framework_torch import PTFedProxLoss

    flare.init()
    x, y = points(flare.get_site_name())
    while flare.is_running():
        model = flare.receive()
        if flare.is_submit_model():
            flare.send(flare.FLModel(params=torch.load(flare.state_dir() / "own.pt", weights_only=True)))
            continue
        net, received = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
        net.load_state_dict(model.params)
        received.load_state_dict(model.params)
        metrics = {"loss": loss(net, x, y).item()}
        if flare.is_evaluate():
            flare.send(flare.FLModel(metrics=metrics))
            continue
        prox = PTFedProxLoss(model.meta.get("fedprox_mu", 0.0))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(int(sys.argv[1])):
            optimizer.zero_grad()
            (loss(net, x, y) + prox(net, received)).backward()
            optimizer.step()
        torch.save(net.state_dict(), flare.state_dir() / "own.pt")
        flare.send(flare.FLModel(params=net, metrics=metrics, meta={"NUM_STEPS_CURRENT_ROUND": len(x)}))
"""
PARTS = """
    import torch

    def points(site):
        chance = torch.Generator().manual_seed(int(site[-1]))
        x = torch.randn(10 * int(site[-1]), 2, generator=chance)
        return x, x @ torch.tensor([[2.0], [-1.0]]) + int(site[-1])

    def loss(net, x, y):
        return ((net(x) - y) ** 2).mean()
"""
MODEL = """
    import torch

    class Net(torch.nn.Linear):
        def __init__(self, width):
            super().__init__(width, 1)
"""


@pytest.fixture
def author(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of somebody who writes a recipe."""
    for name, text in (("client.py", CLIENT), ("parts.py", PARTS), ("described_net.py", MODEL)):
        (tmp_path / name).write_text(textwrap.dedent(text))
    (tmp_path / "home").mkdir()
    for name in ("FLPOC_CONFIG", "FLPOC_STARTUP_KIT_DIR", "FLPOC_EXPORT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["job.py"])
    return tmp_path


def linear() -> torch.nn.Linear:
    net = torch.nn.Linear(2, 1)
    torch.nn.init.ones_(net.weight)
    torch.nn.init.zeros_(net.bias)
    return net


def simulated(recipe: Any, author: Path) -> Path:
    """The results; sites are run one after the other in this process, where PyTorch is loaded already."""
    env = SimEnv(num_clients=2, workspace_root=str(author / "results"), extra={"in_process": True})
    return Path(recipe.run(env).get_result())


def model_in(results: Path) -> dict[str, Any]:
    with TensorFile.open(results / "FL_global_model.safetensors") as found:
        return {name: np.array(one) for name, one in found.items()}


def trained_by(net: Any, number: int, steps: int, mu: float = 0.0) -> Any:
    """What a site makes of a model: a plain loop without flpoc."""
    chance = torch.Generator().manual_seed(number)
    x = torch.randn(10 * number, 2, generator=chance)
    y = x @ torch.tensor([[2.0], [-1.0]]) + number
    net, received = copy.deepcopy(net), copy.deepcopy(net)
    for _ in range(steps):
        net.zero_grad()
        near = sum(((a - b.detach()) ** 2).sum() for a, b in zip(net.parameters(), received.parameters(), strict=True))
        (((net(x) - y) ** 2).mean() + mu / 2 * near).backward()
        with torch.no_grad():
            for one in net.parameters():
                one.sub_(0.1 * one.grad)
    return net


def mean_of(nets: list[Any], weights: list[float]) -> Any:
    found = copy.deepcopy(nets[0])
    total = sum(weights)
    with torch.no_grad():
        for name, one in found.named_parameters():
            parts = [weight / total * net.get_parameter(name) for net, weight in zip(nets, weights, strict=True)]
            one.copy_(sum(parts))
    return found


def assert_same(found: dict[str, Any], expected: Any) -> None:
    for name, value in expected.state_dict().items():
        assert np.allclose(found[name], value.numpy(), atol=1e-6), name


@pytest.mark.parametrize("mu", [0.0, 0.5])
def test_the_result_is_that_of_a_plain_loop(author: Path, mu: float) -> None:
    given = {"model": linear(), "min_clients": 2, "num_rounds": 3, "train_script": "client.py", "train_args": "4"}
    recipe = recipes.FedProxRecipe(**given, fedprox_mu=mu) if mu else recipes.FedAvgRecipe(**given)
    net = linear()
    for _ in range(3):
        net = mean_of([trained_by(net, number, 4, mu) for number in (1, 2)], [10, 20])
    assert_same(model_in(simulated(recipe, author)), net)


def test_one_full_step_is_a_step_of_gradient_descent_on_all_data(author: Path) -> None:
    recipe = recipes.FedAvgRecipe(model=linear(), min_clients=2, num_rounds=1, train_script="client.py", train_args="1")
    net = linear()
    parts = []
    for number in (1, 2):
        x = torch.randn(10 * number, 2, generator=torch.Generator().manual_seed(number))
        parts.append((x, x @ torch.tensor([[2.0], [-1.0]]) + number))
    x, y = (torch.cat([part[place] for part in parts]) for place in (0, 1))
    ((net(x) - y) ** 2).mean().backward()
    with torch.no_grad():
        for one in net.parameters():
            one.sub_(0.1 * one.grad)
    assert_same(model_in(simulated(recipe, author)), net)


def test_the_servers_step_is_that_of_pytorch(author: Path) -> None:
    """SGD with momentum, on the mean change as a gradient."""
    recipe = recipes.FedOptRecipe(
        model=linear(), min_clients=2, num_rounds=3, train_script="client.py", train_args="2",
        optimizer_args={"path": "torch.optim.SGD", "args": {"lr": 0.5, "momentum": 0.8}, "config_type": "dict"},
        lr_scheduler_args={"path": "torch.optim.lr_scheduler.StepLR", "args": {"step_size": 2}},
    )  # fmt: skip
    net = linear()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5, momentum=0.8)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2)
    for _ in range(3):
        mean = mean_of([trained_by(net, number, 2) for number in (1, 2)], [10, 20])
        for one, goal in zip(net.parameters(), mean.parameters(), strict=True):
            one.grad = (one - goal).detach()
        optimizer.step()
        schedule.step()
    assert_same(model_in(simulated(recipe, author)), net)


@pytest.mark.parametrize(
    ("schedule", "args"),
    [
        ("StepLR", {"step_size": 2, "gamma": 0.5}),
        ("MultiStepLR", {"milestones": [1, 3]}),
        ("ExponentialLR", {"gamma": 0.9}),
        ("CosineAnnealingLR", {"T_max": 3, "eta_min": 0.01}),
        ("LinearLR", {"total_iters": 3}),
    ],
)
def test_the_servers_learning_rate_changes_as_in_pytorch(schedule: str, args: dict[str, Any]) -> None:
    recipe = recipes.FedOptRecipe(
        min_clients=2, train_script="client.py",
        lr_scheduler_args={"path": f"torch.optim.lr_scheduler.{schedule}", "args": args, "config_type": "dict"},
    )  # fmt: skip
    mine = structure(recipe.job.settings["aggregator_settings"]["lr_schedule"], LrSchedule)
    optimizer = torch.optim.SGD(linear().parameters(), lr=0.5)
    theirs = getattr(torch.optim.lr_scheduler, schedule)(optimizer, **args)
    for step in range(6):
        assert mine.at(0.5, step) == pytest.approx(theirs.get_last_lr()[0], rel=1e-12)
        optimizer.step()
        theirs.step()


def test_the_model_goes_from_site_to_site(author: Path) -> None:
    recipe = recipes.CyclicRecipe(model=linear(), min_clients=2, num_rounds=2, train_script="client.py", train_args="3")
    net = linear()
    for number in (1, 2, 1, 2):
        net = trained_by(net, number, 3)
    assert_same(model_in(simulated(recipe, author)), net)


def test_a_model_is_evaluated_everywhere(author: Path) -> None:
    recipe = recipes.FedEvalRecipe(model=linear(), min_clients=2, eval_script="client.py", eval_args="1")
    results = simulated(recipe, author)
    found = json.loads((results / "cross_site_val" / "cross_val_results.json").read_text())
    assert {site: set(judged) for site, judged in found.items()} == {"site-1": {"server"}, "site-2": {"server"}}
    x = torch.randn(10, 2, generator=torch.Generator().manual_seed(1))
    expected = ((linear()(x) - (x @ torch.tensor([[2.0], [-1.0]]) + 1)) ** 2).mean().item()
    assert next(iter(found["site-1"]["server"].values())) == pytest.approx(expected, rel=1e-5)


def test_a_described_model_is_made_at_the_server_from_the_seed(author: Path) -> None:
    given = {"min_clients": 2, "num_rounds": 1, "train_script": "client.py", "train_args": "1", "seed": 5}
    described = {"class_path": "described_net.Net", "args": {"width": 2}}
    first = model_in(simulated(recipes.FedAvgRecipe(model=described, **given), author))
    torch.manual_seed(5)
    net = torch.nn.Linear(2, 1)
    assert_same(first, mean_of([trained_by(net, number, 1) for number in (1, 2)], [10, 20]))


def test_a_job_starts_from_a_checkpoint_and_gives_one(author: Path) -> None:
    torch.save(linear().state_dict(), author / "start.pt")
    recipe = recipes.FedAvgRecipe(
        initial_ckpt=str(author / "start.pt"), min_clients=2, num_rounds=2, train_script="client.py", train_args="1",
        key_metric="loss", key_metric_mode="min", best_model_filename="best.pt",
    )  # fmt: skip
    results = simulated(recipe, author)
    net = mean_of([trained_by(linear(), number, 1) for number in (1, 2)], [10, 20])
    best = torch.load(results / "best.pt", weights_only=True)
    last = mean_of([trained_by(net, number, 1) for number in (1, 2)], [10, 20])
    assert any(np.allclose(best["weight"].numpy(), one.weight.detach().numpy(), atol=1e-6) for one in (net, last))


def test_sites_judge_each_others_models(author: Path) -> None:
    recipe = recipes.FedAvgRecipe(model=linear(), min_clients=2, num_rounds=1, train_script="client.py", train_args="1")
    add_cross_site_evaluation(recipe)
    results = simulated(recipe, author)
    found = json.loads((results / "cross_site_val" / "cross_val_results.json").read_text())
    assert set(found) == {"site-1", "site-2"}
    own = trained_by(linear(), 1, 1)
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(2))
    expected = ((own(x) - (x @ torch.tensor([[2.0], [-1.0]]) + 2)) ** 2).mean().item()
    assert found["site-2"]["site-1"]["loss"] == pytest.approx(expected, rel=1e-5)
    assert len(found["site-1"]) > 2  # and that of the server


# -- what is written into a job


def exported(recipe: Any, author: Path) -> dict[str, Any]:
    return dict(json.loads((recipe.export(author / "jobs") / "job.conf").read_text()))


@pytest.mark.parametrize("cls", [one for one in ALL if one is not recipes.FedEvalRecipe])
def test_scripts_receive_tensors_and_sites_need_the_plugin(author: Path, cls: Any) -> None:
    recipe = cls(model=linear(), min_clients=2, train_script="client.py")
    said = exported(recipe, author)
    assert said["scripts"]["@default"]["framework"] == "pytorch"
    assert said["plugins"] == ["frameworks/pytorch"]
    assert recipe.framework == "pytorch"


@pytest.mark.parametrize("given", [linear(), linear().state_dict()], ids=["module", "state dict"])
def test_the_state_of_a_module_is_the_initial_model(author: Path, given: Any) -> None:
    folder = recipes.FedAvgRecipe(model=given, min_clients=2, train_script="client.py").export(author / "jobs")
    with TensorFile.open(folder / "code" / "initial_model.safetensors") as found:
        assert {name: one.shape for name, one in found.items()} == {"weight": (1, 2), "bias": (1,)}


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"optimizer_args": {"path": "torch.optim.RMSprop"}}, "torch.optim.SGD"),
        ({"optimizer_args": {"path": "torch.optim.SGD", "args": {"nesterov": True}}}, "nesterov"),
        ({"optimizer_args": {"paht": "torch.optim.SGD"}}, "did you mean 'path'"),
        ({"optimizer_args": {"path": "torch.optim.Adam", "args": {"lr": -1}}}, "lr"),
        ({"lr_scheduler_args": {"path": "torch.optim.lr_scheduler.CosineAnnealingLR"}}, "'cosine' needs t_max"),
        ({"lr_scheduler_args": {"path": "torch.optim.lr_scheduler.CyclicLR"}}, "torch.optim.lr_scheduler.StepLR"),
    ],
)
def test_what_the_server_cannot_do_is_refused(author: Path, more: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says.replace(".", r"\.")):
        recipes.FedOptRecipe(min_clients=2, train_script="client.py", **more)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (None, {"optimizer": "sgd", "lr": 1.0, "momentum": 0.6}),
        ({"path": "torch.optim.Adam"}, {"optimizer": "adam", "lr": 1e-3}),
        (
            {"path": "torch.optim.Adam", "args": {"lr": 0.1, "betas": [0.8, 0.9], "eps": 0.01}},
            {"optimizer": "adam", "lr": 0.1, "betas": [0.8, 0.9], "tau": 0.01},
        ),
    ],
)
def test_optimisers_may_be_named_as_in_pytorch(author: Path, args: Any, expected: dict[str, Any]) -> None:
    recipe = recipes.FedOptRecipe(min_clients=2, train_script="client.py", optimizer_args=args)
    assert recipe.job.settings["aggregator_settings"] == expected


def test_an_evaluation_needs_a_model() -> None:
    with pytest.raises(ValueError, match="nothing to evaluate"):
        recipes.FedEvalRecipe(min_clients=2, eval_script="client.py")


@pytest.mark.parametrize("cls", [one for one in ALL if one is not recipes.FedEvalRecipe])
def test_a_recipe_has_the_parameters_of_cores_but_for_the_framework(cls: Any) -> None:
    general = dict(inspect.signature(getattr(flpoc.recipe, cls.__name__)).parameters)
    own = dict(inspect.signature(cls).parameters)
    assert general.pop("framework")
    assert "framework" not in own
    assert set(general) <= set(own)
    assert set(own) - set(general) <= {"source_model", "device"}
    same = set(general) - {"optimizer"}
    assert [name for name in same if own[name].default != general[name].default] == []
    assert all(one.kind is one.KEYWORD_ONLY for one in own.values())


def test_the_catalogue_has_them_with_all_their_parameters() -> None:
    found, troubles = catalogue(Plugins.load(only=["torch"]))
    assert troubles == []
    mine = {one.cls: one for one in found if one.module == "flpoc_framework_torch.recipes"}
    assert set(mine) == set(recipes.__all__)
    for cls in ALL:
        assert [one.name for one in mine[cls.__name__].parameters] == list(inspect.signature(cls).parameters)
        assert mine[cls.__name__].entry.framework == "pytorch"
