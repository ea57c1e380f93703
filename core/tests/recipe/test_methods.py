"""What all recipes can be told besides their parameters."""

from __future__ import annotations

import json
import warnings

import pytest

from flpoc.filtering import FilterSpec
from flpoc.jobs.folder import read_job
from flpoc.recipe import FedAvgRecipe, Job, NumpyCrossSiteEvalRecipe, NumpyFedAvgRecipe, Recipe
from flpoc.recipe.leaks import SecretWarning
from flpoc.recipe.utils import (
    add_cross_site_evaluation,
    add_experiment_tracking,
    add_final_global_evaluation,
    set_per_site_config,
    set_recipe_meta,
)  # fmt: skip
from flpoc.simulate.order import read
from flpoc.tracking import TrackerSpec


@pytest.fixture
def recipe(project) -> NumpyFedAvgRecipe:
    return NumpyFedAvgRecipe(min_clients=2, train_script="train.py", train_args="1")


def config(folder) -> dict:
    return json.loads((folder / "code" / "flpoc_config.json").read_text())


# -- sites


def test_sites_are_configured_once(recipe):
    assert recipe.configured_sites() == ()
    set_per_site_config(recipe, {"site-1": {"train_args": "2"}})
    assert recipe.configured_sites() == ("site-1",)
    assert recipe.job.settings["scripts"]["site-1"]["args"] == ["2"]
    with pytest.raises(RuntimeError, match="already"):
        recipe.set_per_site_config({"site-2": {}})


def test_what_a_site_must_have(recipe):
    set_recipe_meta(recipe, "RESOURCE_SPEC", {"site-1": {"num_of_gpus": 1, "memory_gib": 2}, "default": {"cpus": 0.5}})
    scripts = recipe.job.settings["scripts"]
    assert (scripts["@default"]["cpus"], scripts["site-1"]["gpus"], scripts["site-1"]["memory_gib"]) == (0.5, 1, 2.0)
    assert scripts["site-1"]["script"] == "train.py"
    set_recipe_meta(recipe, "resource_spec", {"site-1": {"num_of_cpus": 2, "memory": "512Mi"}})
    assert (scripts["site-1"]["cpus"], scripts["site-1"]["memory_gib"], scripts["site-1"]["gpus"]) == (2.0, 0.5, 1)


def test_what_is_said_of_all_sites_holds_for_those_with_a_configuration_of_their_own(recipe):
    recipe.set_per_site_config({"site-1": {"train_args": "2"}, "site-2": {}})
    set_recipe_meta(recipe, "resource_spec", {"site-2": {"gpus": 2}})
    set_recipe_meta(recipe, "resource_spec", {"@default": {"gpus": 1, "cpus": 3}})
    _, spec = read(recipe.export("jobs"))
    assert [spec.script_for(site).gpus for site in ("site-1", "site-2", "site-3")] == [1, 2, 1]
    assert [spec.script_for(site).cpus for site in ("site-1", "site-2", "site-3")] == [3.0, 3.0, 3.0]
    assert [spec.script_for(site).args for site in ("site-1", "site-2", "site-3")] == [("2",), ("1",), ("1",)]


def test_in_which_image_a_script_runs(recipe):
    set_recipe_meta(recipe, "launcher_spec", {"default": {"docker": {"image": "lab/torch:1"}}})
    set_recipe_meta(recipe, "launcher_spec", {"site-1": {"docker": {"image": "lab/torch:2"}}})
    _, spec = read(recipe.export("jobs"))
    assert [spec.script_for(site).image for site in ("site-1", "site-2")] == ["lab/torch:2", "lab/torch:1"]


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("colour", 1, "key: 'colour' is none of resource_spec"),
        ("launcher_spec", {"a": {"slurm": {}}}, "launcher_spec.a: each site's policy decides its launcher"),
        (
            "launcher_spec",
            {"a": {"docker": {"shm_size": "1g"}}},
            "'shm_size' is not part of a job .* launcher settings",
        ),
        ("launcher_spec", {"a": {"docker": {"num_of_gpus": 1}}}, "'num_of_gpus' is not part .* resource_spec says"),
        ("launcher_spec", {"a": {"docker": {"image": 3}}}, "launcher_spec.a.docker.image: wanted is a text"),
        ("resource_spec", {"a": {"memory": "8"}}, "resource_spec.a.memory: '8' is no amount of memory like '8Gi'"),
        ("resource_spec", {"a": {"memory": "0Gi"}}, "resource_spec.a.memory: 0"),
        ("SCOPE", "x", "each site's policy decides it"),
        ("CUSTOM_PROPS", {}, "add_client_config"),
        ("resource_spec", {"a": {"gpu": 1}}, "did you mean 'gpus'"),
        ("resource_spec", {"a": {"gpus": -1}}, "resource_spec.a.gpus: -1"),
        ("resource_spec", [], "resource_spec: wanted are keys"),
    ],
)
def test_meta_that_cannot_be_kept_is_refused(recipe, key, value, told):
    with pytest.raises(ValueError, match=told):
        set_recipe_meta(recipe, key, value)


# -- what comes along


def test_files_and_folders_come_along_by_their_names(recipe, project):
    (project / "lib" / "__pycache__").mkdir(parents=True)
    (project / "lib" / "one.py").write_text("")
    (project / "lib" / "__pycache__" / "one.pyc").write_text("")
    (project / "labels.txt").write_text("cat")
    recipe.add_client_file("labels.txt")
    recipe.add_server_file(str(project / "lib"))
    folder = recipe.export("jobs")
    assert (folder / "code" / "labels.txt").read_text() == "cat"
    assert [one.name for one in (folder / "code" / "lib").iterdir()] == ["one.py"]
    with pytest.raises(ValueError, match=r"nowhere\.txt: there is no such file"):
        recipe.add_client_file("nowhere.txt")
    with pytest.raises(ValueError, match="clients: a job has one folder of code"):
        recipe.add_client_file("labels.txt", clients=["site-1"])


def test_configuration_is_one_file_beside_the_script(recipe):
    recipe.add_client_config({"depth": 3})
    recipe.add_client_config({"width": [1, 2]})
    recipe.add_server_config({"keep": True})
    assert config(recipe.export("jobs")) == {
        "client": {"@default": {"depth": 3, "width": [1, 2]}},
        "server": {"keep": True},
    }
    with pytest.raises(ValueError, match=r"config\.f: builtin_function_or_method"):
        recipe.add_client_config({"f": print})


def test_a_site_is_configured_alone_only_if_it_is_known(recipe):
    with pytest.raises(ValueError, match="clients: all sites are configured alike"):
        recipe.add_client_config({"depth": 3}, clients=["site-1"])
    recipe.set_per_site_config({"site-1": {}})
    with pytest.raises(ValueError, match="clients: 'site-2' is not configured; there are: site-1"):
        recipe.add_client_config({"depth": 3}, clients=["site-2"])
    recipe.add_client_config({"depth": 3}, clients=["site-1"])
    assert config(recipe.export("jobs"))["client"] == {"site-1": {"depth": 3}}


def test_parameters_of_one_call_are_merged_or_empty_what_there_is_and_are_gone_afterwards(recipe):
    recipe.add_client_config({"depth": 3})
    merged = recipe.export("jobs", client_exec_params={"width": 1}, server_exec_params={"keep": 1})
    assert config(merged) == {"client": {"@default": {"depth": 3, "width": 1}}, "server": {"keep": 1}}
    assert not (recipe.export("jobs", client_exec_params={}) / "code" / "flpoc_config.json").exists()
    assert config(recipe.export("jobs")) == {"client": {"@default": {"depth": 3}}, "server": {}}


def test_a_recipe_of_ones_own_is_a_job(project):
    job = Job("own", {"script": "train.py", "min_clients": 1}, ("train.py",))
    job.to_clients(FilterSpec("clip", {"norm": 1.0}), tasks=["train"])
    job.to_clients("steps.py")
    job.to_clients({"depth": 3})
    job.to_server({"keep": True})
    job.to_server(TrackerSpec("mlflow"))
    folder = Recipe(job).export("jobs")
    spec = read_job(folder)
    assert spec.filters == (FilterSpec("clip", {"norm": 1.0}),)
    assert spec.tracking == (TrackerSpec("mlflow"),)
    assert config(folder) == {"client": {"@default": {"depth": 3}}, "server": {"keep": True}}


@pytest.mark.parametrize(
    ("give", "told"),
    [
        (lambda job: job.to_clients(3), "to_clients: int cannot be sent"),
        (lambda job: job.to_clients("steps.py", tasks=["train"]), "tasks: str is for all tasks"),
        (lambda job: job.to_clients(FilterSpec("x"), tasks=["validate"]), "tasks: 'validate'"),
        (lambda job: job.to_server(3), "to_server: int cannot be sent"),
        (lambda job: job.to_server("nowhere"), "there is no such file"),
    ],
)
def test_what_a_job_cannot_send_is_refused(project, give, told):
    with pytest.raises(ValueError, match=told):
        give(Job("own", {}, ("train.py",)))


# -- filters, logs, streams


def test_filters_are_for_what_leaves_a_site(recipe):
    recipe.add_client_output_filter("clip", tasks=["train"])
    recipe.add_client_output_filter(FilterSpec("noise", {"sigma": 1}))
    assert [one.name for one in read_job(recipe.export("jobs")).filters] == ["clip", "noise"]
    for wrong in (3, "", object()):
        with pytest.raises(ValueError, match="filter: "):
            recipe.add_client_output_filter(wrong)
    with pytest.raises(ValueError, match="clients: the filters of a job hold for all sites"):
        recipe.add_client_output_filter("clip", clients=["site-1"])
    for method in ("add_client_input_filter", "add_server_input_filter", "add_server_output_filter"):
        with pytest.raises(ValueError, match=method):
            getattr(recipe, method)(FilterSpec("clip"), tasks=["train"])


def test_what_is_always_so_may_be_asked_for(recipe):
    before = dict(recipe.job.settings)
    recipe.enable_log_streaming()
    recipe.enable_log_streaming("log.json")
    recipe.enable_tensor_streaming(format="pytorch", tasks=["train"])
    recipe.add_decomposers([])
    assert recipe.job.settings == before
    with pytest.raises(RuntimeError, match="enable_tensor_streaming"):
        recipe.enable_tensor_streaming()
    with pytest.raises(ValueError, match="only arrays and plain data travel"):
        recipe.add_decomposers([object])


# -- evaluation and tracking


def test_cross_site_evaluation_is_added_once(recipe):
    add_cross_site_evaluation(recipe, participating_clients=["site-1"])
    assert recipe.job.settings["workflow_settings"]["cross_site_evaluation"] == {
        "sites": ["site-1"],
        "submit_model_timeout": 600.0,
        "validation_timeout": 6000.0,
    }
    with pytest.raises(RuntimeError, match="added before"):
        add_cross_site_evaluation(recipe)


def test_the_final_model_alone_is_evaluated(recipe):
    add_final_global_evaluation(recipe, ["site-1"], validation_timeout=60)
    assert recipe.job.settings["workflow_settings"]["cross_site_evaluation"] == {
        "sites": ["site-1"],
        "submit_model_timeout": 60.0,
        "validation_timeout": 60.0,
        "only_final": True,
    }
    for add in (add_final_global_evaluation, add_cross_site_evaluation):
        with pytest.raises(RuntimeError, match="added before"):
            add(recipe)


def test_a_recipe_that_only_evaluates_does_so_once(project):
    recipe = NumpyCrossSiteEvalRecipe(min_clients=1, eval_script="train.py")
    before = dict(recipe.job.settings["workflow_settings"])
    add_cross_site_evaluation(recipe)
    assert recipe.job.settings["workflow_settings"] == before


def test_cross_site_evaluation_needs_a_framework_that_is_known(recipe, project):
    with pytest.raises(ValueError, match="framework: the recipe does not say its own"):
        add_cross_site_evaluation(Recipe(Job("own", {})))
    recipe.framework = "xgboost"
    with pytest.raises(ValueError, match="framework: 'xgboost' cannot be evaluated"):
        add_cross_site_evaluation(recipe)
    for framework in ("pytorch", "tensorflow", "numpy", "raw"):
        add_cross_site_evaluation(FedAvgRecipe(min_clients=1, train_script="train.py", framework=framework))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"submit_model_timeout": 0}, "submit_model_timeout: 0"),
        ({"validation_timeout": "long"}, "validation_timeout: 'long'"),
        ({"participating_clients": []}, "participating_clients: name at least one"),
        ({"participating_clients": "site-1"}, "participating_clients: wanted is a list"),
        ({"participating_clients": ["server"]}, "participating_clients: 'server'"),
    ],
)
def test_an_evaluation_that_cannot_be_is_refused(recipe, given, told):
    with pytest.raises(ValueError, match=told):
        add_cross_site_evaluation(recipe, **given)


@pytest.fixture
def tracker(tmp_path, monkeypatch, home):
    """An installed tracker called ``board``."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "board_hooks.py").write_text(
        "import attrs\nfrom flpoc import Component, hookimpl\nFLPOC_API = 1\n"
        "@attrs.frozen\nclass Settings:\n    folder: str = ''\n"
        "@hookimpl\ndef flpoc_trackers():\n    yield Component('board', 'A board', lambda settings: None, Settings)\n"
    )
    monkeypatch.syspath_prepend(folder)
    (home / ".flpoc").mkdir()
    (home / ".flpoc" / "config.conf").write_text('{"version": 2, "plugins": {"load": ["board_hooks"]}}')


def test_an_installed_tracker_is_added_once(recipe, tracker):
    add_experiment_tracking(recipe, "board", {"folder": "x"})
    assert recipe.job.settings["tracking"] == [{"name": "board", "settings": {"folder": "x"}}]
    with pytest.raises(RuntimeError, match="'board' was added before"):
        add_experiment_tracking(recipe, "board")


@pytest.mark.parametrize(
    ("words", "given", "told"),
    [
        (("bord",), {}, "no tracker 'bord' is installed: did you mean 'board'"),
        (("mlflow",), {}, "no tracker 'mlflow' is installed: .*install flpoc-tracking-mlflow"),
        (("",), {}, "tracking_type: wanted is a text"),
        (("board", {"foldr": 1}), {}, "foldr: no such setting: did you mean 'folder'"),
        (("board", {"folder": print}), {}, "tracking_config.folder: "),
        (("board",), {"server_side": False}, "server_side: switched off"),
        (("board",), {"client_side": True}, "client_side: trackers run beside the server"),
        (("board",), {"clients": ["a"]}, "clients: trackers run beside the server"),
        (("board",), {"client_side": "yes"}, "client_side: wanted is True or False"),
    ],
)
def test_tracking_that_cannot_be_is_refused(recipe, tracker, words, given, told):
    with pytest.raises(ValueError, match=told):
        add_experiment_tracking(recipe, *words, **given)
    assert "tracking" not in recipe.job.settings


# -- secrets


@pytest.mark.parametrize(
    ("args", "config", "where"),
    [
        (["--password", "hunter2"], {}, r"args --password"),
        (["--api-key=abc"], {}, r"args --api-key"),
        (["https://me:pw@host/x"], {}, r"args\[0\]"),
        ([], {"db": {"password": "hunter2"}}, r"client_config\.@default\.db\.password"),
        ([], {"who": "ghp_" + "a" * 36}, r"client_config\.@default\.who"),
    ],
)
def test_what_looks_like_a_secret_is_said_and_not_repeated(project, args, config, where):
    recipe = NumpyFedAvgRecipe(min_clients=1, train_script="train.py", train_args=args)
    recipe.add_client_config(config)
    with pytest.warns(SecretWarning, match=f"{where} looks like a secret") as caught:
        recipe.export("jobs")
    assert not any("hunter2" in str(one.message) for one in caught)


@pytest.mark.parametrize(
    "args", [["--token-file", "x"], ["--epochs", "3"], ["--password"], ["--key", "-v"], ["--token", "{secret:A}"]]
)
def test_what_looks_like_none_is_not_said(project, args):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        NumpyFedAvgRecipe(min_clients=1, train_script="train.py", train_args=args).export("jobs")
