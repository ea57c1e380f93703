"""Constructors and functions are as documented: names, order, defaults, and what is given by name only."""

from __future__ import annotations

import inspect

import pytest

import flpoc.recipe
import flpoc.recipe.utils
from flpoc.recipe import DataKind, ExchangeFormat, FrameworkType, TransferType
from flpoc.session import new_secure_session

#: A parameter that must be given.
REQUIRED = inspect.Parameter.empty

FEDAVG = {
    "name": "fedavg",
    "model": None,
    "initial_ckpt": None,
    "min_clients": REQUIRED,
    "num_rounds": 2,
    "train_script": REQUIRED,
    "train_args": "",
    "aggregator": None,
    "aggregator_data_kind": DataKind.WEIGHTS,
    "launch_external_process": False,
    "command": "python3 -u",
    "launch_once": True,
    "launch_timeout": 300.0,
    "shutdown_timeout": 0.0,
    "framework": FrameworkType.PYTORCH,
    "server_expected_format": ExchangeFormat.NUMPY,
    "params_transfer_type": TransferType.FULL,
    "model_persistor": None,
    "per_site_config": None,
    "key_metric": "accuracy",
    "key_metric_mode": None,
    "stop_cond": None,
    "patience": None,
    "best_model_filename": None,
    "save_filename": None,
    "exclude_vars": None,
    "aggregation_weights": None,
    "server_memory_gc_rounds": 0,
    "client_memory_gc_rounds": 0,
    "cuda_empty_cache": False,
    "enable_tensor_disk_offload": False,
    # not documented elsewhere: sampling is a parameter of its own, and chance has a seed
    "clients_per_round": None,
    "seed": 0,
}
ENVIRONMENTS = {
    "SimEnv": {
        "num_clients": 0,
        "clients": None,
        "num_threads": None,
        "gpu_config": None,
        "log_config": None,
        "workspace_root": "/tmp/flpoc/simulation",
        "extra": None,
    },
    "PocEnv": {
        "num_clients": 2,
        "clients": None,
        "gpu_ids": None,
        "use_he": False,
        "docker_image": None,
        "project_conf_path": "",
        "username": "admin@nvidia.com",
        "study": "default",
        "extra": None,
    },
    "ProdEnv": {
        "startup_kit_location": REQUIRED,
        "login_timeout": 5.0,
        "username": "admin@nvidia.com",
        "study": "default",
        "extra": None,
    },
}
#: What a recipe has besides, before these, instead of the parameters of FedAvg that it does not have.
OTHERS = {
    "NumpyFedAvgRecipe": {},
    "FedProxRecipe": {"name": "fedprox", "framework": "numpy", "fedprox_mu": 0.01},
    "FedOptRecipe": {
        "name": "fedopt",
        "framework": "numpy",
        "optimizer": "adam",
        "optimizer_args": None,
        "lr_scheduler_args": None,
        "params_transfer_type": "DIFF",
    },
    "CyclicRecipe": {"name": "cyclic", "framework": "numpy", "order": "fixed", "task_assignment_timeout": 10},
}
FUNCTIONS = {
    flpoc.recipe.utils.add_cross_site_evaluation: {
        "recipe": REQUIRED,
        "submit_model_timeout": 600,
        "validation_timeout": 6000,
        "participating_clients": None,
    },
    flpoc.recipe.utils.add_final_global_evaluation: {
        "recipe": REQUIRED,
        "participating_clients": None,
        "validation_timeout": 6000,
    },
    flpoc.recipe.utils.add_experiment_tracking: {
        "recipe": REQUIRED,
        "tracking_type": REQUIRED,
        "tracking_config": None,
        "client_side": False,
        "server_side": True,
        "clients": None,
    },
    flpoc.recipe.utils.set_recipe_meta: {"recipe": REQUIRED, "key": REQUIRED, "value": REQUIRED},
    flpoc.recipe.utils.set_per_site_config: {"recipe": REQUIRED, "config": REQUIRED},
    flpoc.recipe.Recipe.run: {
        "self": REQUIRED,
        "env": None,
        "server_exec_params": None,
        "client_exec_params": None,
    },
    flpoc.recipe.Run.__init__: {"self": REQUIRED, "exec_env": REQUIRED, "job_id": REQUIRED},
    flpoc.recipe.Run.get_result: {"self": REQUIRED, "timeout": 0.0, "clean_up": True},
    flpoc.recipe.ExecEnv.get_job_result: {"self": REQUIRED, "job_id": REQUIRED, "timeout": 0.0},
    flpoc.recipe.ExecEnv.stop: {"self": REQUIRED, "clean_up": False},
    new_secure_session: {
        "username": REQUIRED,
        "startup_kit_location": REQUIRED,
        "debug": False,
        "timeout": 10.0,
        "study": "default",
    },
}


def defaults(function) -> dict:
    return {name: one.default for name, one in inspect.signature(function).parameters.items()}


@pytest.mark.parametrize(("name", "table"), [("FedAvgRecipe", FEDAVG), *ENVIRONMENTS.items()])
def test_a_constructor_is_as_documented(name, table):
    found = getattr(flpoc.recipe, name)
    assert list(defaults(found).items()) == list(table.items())
    assert {one.kind for one in inspect.signature(found).parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("name", OTHERS)
def test_other_recipes_call_the_same_thing_the_same_in_the_same_order(name):
    found = getattr(flpoc.recipe, name)
    given, own = defaults(found), OTHERS[name]
    assert {key: given[key] for key in own} == own
    shared = [key for key in given if key in FEDAVG]
    assert shared == [key for key in FEDAVG if key in shared]
    assert {key: given[key] for key in shared if key not in own} == {
        key: FEDAVG[key] for key in shared if key not in own
    }
    assert {one.kind for one in inspect.signature(found).parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__qualname__)
def test_a_function_is_as_documented(function):
    given, table = defaults(function), FUNCTIONS[function]
    assert list(given) == list(table)
    assert {key: given[key] for key, value in table.items() if value is not REQUIRED} == {
        key: value for key, value in table.items() if value is not REQUIRED
    }


def test_what_is_documented_can_be_imported():
    names = {
        "DataKind", "ExchangeFormat", "ExecEnv", "FedAvgRecipe", "FrameworkType", "ModelAggregator", "ModelPersistor",
        "NumpyCrossSiteEvalRecipe", "NumpyFedAvgRecipe", "PocEnv", "ProdEnv", "Recipe", "Run", "SimEnv", "TransferType",
    }  # fmt: skip
    assert names <= set(flpoc.recipe.__all__)
    assert [one.value for one in FrameworkType] == ["pytorch", "tensorflow", "numpy", "raw"]
    assert [one.name for one in TransferType] == ["FULL", "DIFF"]
    assert [one.name for one in DataKind] == ["WEIGHTS", "WEIGHT_DIFF"]
