"""Parameters become keys of the job file, or an error that names the parameter, when the recipe is made."""

from __future__ import annotations

import re

import pytest

from flpoc.recipe import (
    CyclicRecipe,
    FedAvgRecipe,
    FedOptRecipe,
    FedProxRecipe,
    NumpyCrossSiteEvalRecipe,
    NumpyFedAvgRecipe,
)  # fmt: skip


def settings(cls=FedAvgRecipe, **given):
    base = {"min_clients": 2, "train_script": "train.py"}
    return cls(**{**base, **given}).job.settings


def test_without_more_a_script_runs_with_its_framework_and_everything_is_said():
    found = settings()
    assert found["scripts"] == {
        "@default": {
            "script": "train.py",
            "args": [],
            "command": [],
            "framework": "pytorch",
            "transfer_type": "FULL",
            "launch_once": True,
            "shutdown_timeout": 0.0,
            "memory_gc_rounds": 0,
            "cuda_empty_cache": False,
        }
    }
    assert found["plugins"] == ["frameworks/pytorch"]
    assert found["workflow_settings"] == {
        "memory_gc_rounds": 0,
        "key_metric": "accuracy",
        "key_metric_mode": "max",
    }
    assert (found["aggregator"], found["aggregator_settings"]) == ("mean", {})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"framework": "numpy"}, {"framework": ""}),
        ({"framework": "raw"}, {"framework": ""}),
        ({"train_args": "--a 'b c'"}, {"args": ["--a", "b c"]}),
        ({"params_transfer_type": "DIFF"}, {"transfer_type": "DIFF"}),
        ({"launch_external_process": True}, {"command": []}),
        ({"launch_external_process": True, "command": "torchrun -n 2"}, {"command": ["torchrun", "-n", "2"]}),
        ({"command": "torchrun -n 2"}, {"command": []}),
        ({"launch_once": False}, {"launch_once": False}),
        ({"shutdown_timeout": 5}, {"shutdown_timeout": 5.0}),
        ({"client_memory_gc_rounds": 3, "cuda_empty_cache": True}, {"memory_gc_rounds": 3, "cuda_empty_cache": True}),
    ],
    ids=str,
)
def test_what_concerns_the_script_is_said_with_the_script(given, said):
    entry = settings(**given)["scripts"]["@default"]
    assert {key: entry[key] for key in said} == said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"stop_cond": "loss <= 0.1", "key_metric": "loss"}, {"key_metric_mode": "min", "stop_cond": "loss <= 0.1"}),
        ({"stop_cond": "loss < 0.1"}, {"key_metric": "accuracy", "key_metric_mode": "max"}),
        ({"stop_cond": "accuracy >= 0.9", "patience": 3}, {"key_metric_mode": "max", "patience": 3}),
        ({"stop_cond": "accuracy = 1"}, {"key_metric_mode": "max"}),
        ({"key_metric": "loss", "key_metric_mode": "min"}, {"key_metric": "loss", "key_metric_mode": "min"}),
        ({"clients_per_round": 5}, {"clients_per_round": 5}),
        ({"server_memory_gc_rounds": 2}, {"memory_gc_rounds": 2}),
        ({"initial_ckpt": "/data/model.pt"}, {"initial_checkpoint": "/data/model.pt"}),
    ],
    ids=str,
)
def test_what_concerns_the_course_is_said_with_the_workflow(given, said):
    found = settings(**given)["workflow_settings"]
    assert {key: found[key] for key in said} == said


@pytest.mark.parametrize(
    ("given", "aggregator", "said"),
    [
        ({"exclude_vars": "^head"}, "mean", {"exclude": "^head"}),
        ({"aggregation_weights": {"site-1": 2}}, "mean", {"weights": {"site-1": 2.0}}),
        ({"aggregator": "median"}, "median", {}),
        ({"aggregator": {"name": "trimmed_mean", "trim": 0.2}}, "trimmed_mean", {"trim": 0.2}),
    ],
    ids=str,
)
def test_what_makes_one_model_of_the_updates(given, aggregator, said):
    found = settings(**given)
    assert (found["aggregator"], found["aggregator_settings"]) == (aggregator, said)


def test_an_aggregator_of_ones_own_takes_no_settings_of_the_mean_and_says_so():
    with pytest.warns(UserWarning, match="exclude_vars and aggregation_weights: no effect"):
        found = settings(aggregator="median", exclude_vars="x", aggregation_weights={"site-1": 1})
    assert found["aggregator_settings"] == {}


def test_a_launch_timeout_of_none_is_as_good_as_none():
    assert settings()["timeouts"] == {"join_timeout": 300.0}
    assert settings(launch_timeout=20)["timeouts"] == {"join_timeout": 20.0}
    assert settings(launch_timeout=None)["timeouts"]["join_timeout"] > 1e7


def test_sites_that_are_named_differ_in_what_is_said_and_in_nothing_else():
    recipe = FedAvgRecipe(
        min_clients=2,
        train_script="train.py",
        train_args="-v",
        per_site_config={
            "a": {"train_args": "--more", "framework": "numpy", "launch_timeout": 900},
            "b": {"train_script": "dir/b.py", "command": "nice python3", "launch_external_process": True},
        },
    )
    general = recipe.job.settings["scripts"]["@default"]
    assert recipe.job.settings["scripts"]["a"] == {**general, "args": ["--more"], "framework": ""}
    assert recipe.job.settings["scripts"]["b"] == {**general, "script": "b.py", "command": ["nice", "python3"]}
    assert recipe.job.settings["timeouts"] == {"join_timeout": 900.0}
    assert recipe.job.scripts == ("train.py", "dir/b.py")
    assert recipe.configured_sites() == ("a", "b")
    assert "plugins" not in recipe.job.settings  # a does without the framework


def test_the_best_model_has_the_name_that_is_asked_for():
    assert NumpyFedAvgRecipe(min_clients=1, train_script="t.py", best_model_filename="b.npz").job.best_model_filename
    with pytest.warns(DeprecationWarning, match="best_model_filename"):
        assert FedAvgRecipe(min_clients=1, train_script="t.py", save_filename="b.pt").job.best_model_filename == "b.pt"
    told = r"save_filename: 'a\.pt'"
    with pytest.warns(DeprecationWarning, match="best_model_filename"), pytest.raises(ValueError, match=told):
        FedAvgRecipe(min_clients=1, train_script="t.py", save_filename="a.pt", best_model_filename="b.pt")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"framework": "torch"}, "framework: 'torch' is none of pytorch"),
        ({"server_expected_format": "pickle"}, "server_expected_format: 'pickle'"),
        ({"params_transfer_type": "full"}, "params_transfer_type: 'full'"),
        ({"aggregator_data_kind": "X"}, "aggregator_data_kind: 'X'"),
        ({"launch_external_process": 1}, "launch_external_process: "),
        ({"launch_once": None}, "launch_once: "),
        ({"launch_timeout": 0}, "launch_timeout: 0"),
        ({"shutdown_timeout": -1}, "shutdown_timeout: -1"),
        ({"shutdown_timeout": float("nan")}, "shutdown_timeout: nan"),
        ({"command": "'x", "launch_external_process": True}, "command: No closing"),
        ({"initial_ckpt": "model.pt"}, "initial_ckpt: 'model.pt' is not an absolute path"),
        ({"initial_ckpt": 3}, "initial_ckpt: "),
        ({"model_persistor": object()}, "model_persistor: object"),
        ({"key_metric": ""}, "key_metric: "),
        ({"key_metric_mode": "big"}, "key_metric_mode: 'big'"),
        ({"key_metric_mode": "min", "stop_cond": "accuracy > 0.9"}, "key_metric_mode: 'min' contradicts"),
        ({"stop_cond": "accuracy>=0.9"}, "stop_cond: 'accuracy>=0.9'"),
        ({"stop_cond": "accuracy  >= 0.9"}, "stop_cond: "),
        ({"stop_cond": "accuracy >= high"}, "stop_cond: 'high' is no number"),
        ({"stop_cond": "accuracy >= nan"}, "stop_cond: 'nan' is no number"),
        ({"stop_cond": "accuracy == 1"}, "stop_cond: "),
        ({"patience": 2}, "patience: it needs a stop_cond"),
        ({"patience": 0, "stop_cond": "a > 1"}, "patience: 0"),
        ({"best_model_filename": "../x.pt"}, "best_model_filename: "),
        ({"exclude_vars": "("}, "exclude_vars: '\\('"),
        ({"aggregation_weights": {"site-1": -1}}, r"aggregation_weights\['site-1'\]: -1"),
        ({"aggregation_weights": {"server": 1}}, "aggregation_weights: 'server'"),
        ({"aggregation_weights": [1]}, "aggregation_weights: wanted are keys"),
        ({"server_memory_gc_rounds": -1}, "server_memory_gc_rounds: -1"),
        ({"client_memory_gc_rounds": 1.0}, "client_memory_gc_rounds: 1.0"),
        ({"cuda_empty_cache": "yes"}, "cuda_empty_cache: "),
        ({"enable_tensor_disk_offload": 1}, "enable_tensor_disk_offload: "),
        ({"clients_per_round": 0}, "clients_per_round: 0"),
        ({"seed": 1.5}, "seed: 1.5"),
        ({"seed": 1 << 63}, "seed: "),
        ({"aggregator": {"trim": 1}}, "aggregator: wanted is a text"),
        ({"aggregator": object()}, "aggregator: object; wanted is an object of your own"),
        ({"model": {"class_path": "Net"}}, "class_path: 'Net' is not 'module.Class'"),
        ({"model": {"class_path": "a.B", "arg": 1}}, "model: arg: did you mean 'args'"),
        ({"model": {"class_path": "a.B", "args": {"f": print}}}, "model.args.f: builtin_function_or_method cannot be"),
        ({"per_site_config": {"@ALL": {}}}, "per_site_config: '@ALL'"),
        ({"per_site_config": {"a": {"framework": "x"}}}, r"per_site_config\['a'\]: framework: 'x'"),
        ({"per_site_config": {"a": {"launch_timeout": -1}}}, r"per_site_config\['a'\]: launch_timeout: -1"),
    ],
    ids=lambda one: re.sub(" at 0x[0-9a-f]+", "", str(one)),  # the same in every process
)
def test_a_parameter_that_cannot_be_used_is_named_at_once(given, told):
    with pytest.raises(ValueError, match=told):
        settings(**given)


# -- other algorithms


def test_fedprox_says_mu_with_every_task():
    found = settings(FedProxRecipe, fedprox_mu=0.5)
    assert found["workflow_settings"]["task_meta"] == {"fedprox_mu": 0.5}
    assert (found["workflow"], found["aggregator"]) == ("fedavg", "mean")
    with pytest.raises(ValueError, match="fedprox_mu: -1"):
        settings(FedProxRecipe, fedprox_mu=-1)


def test_fedopt_has_an_optimizer_at_the_server_that_gets_changes():
    args = {"lr": 0.1, "betas": (0.9, 0.99)}
    found = settings(FedOptRecipe, model=[0.0], optimizer="yogi", optimizer_args=args, exclude_vars="^b")
    assert found["aggregator"] == "fedopt"
    assert found["aggregator_settings"] == {"optimizer": "yogi", "lr": 0.1, "betas": [0.9, 0.99], "exclude": "^b"}
    assert found["scripts"]["@default"]["transfer_type"] == "DIFF"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"optimizer": "lamb"}, "optimizer: 'lamb' is none of adam"),
        ({"optimizer_args": {"learning_rate": 1}}, "optimizer_args: learning_rate: "),
        ({"optimizer_args": {"lr": 0}}, "optimizer_args.lr: 0"),
        ({"optimizer_args": {"betas": 0.9}}, "optimizer_args.betas: 0.9"),
        ({"optimizer_args": {"betas": [0.9, 1]}}, "optimizer_args.betas: 1"),
        ({"optimizer_args": {"momentum": 1.0}}, "optimizer_args.momentum: 1.0"),
    ],
    ids=str,
)
def test_an_optimizer_that_cannot_be_is_refused(given, told):
    with pytest.raises(ValueError, match=told):
        settings(FedOptRecipe, **{"model": [0.0], **given})


def test_cyclic_passes_one_model_around():
    found = settings(CyclicRecipe, model=[0.0], order="random", num_rounds=3)
    assert (found["workflow"], found["rounds"]) == ("cyclic", 3)
    assert found["workflow_settings"] == {"memory_gc_rounds": 0, "order": "random"}
    with pytest.raises(ValueError, match="order: 'up'"):
        settings(CyclicRecipe, order="up")


def test_an_evaluation_trains_nothing():
    recipe = NumpyCrossSiteEvalRecipe(min_clients=2, eval_script="eval.py", model=[1.0], participating_clients=["a"])
    assert recipe.job.settings["workflow"] == "cross_site_evaluation"
    assert recipe.job.settings["workflow_settings"] == {
        "sites": ["a"],
        "submit_model_timeout": 600.0,
        "validation_timeout": 6000.0,
    }
    assert recipe.job.scripts == ("eval.py",)
