"""Federated averaging."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flpoc.aggregating import ModelAggregator
from flpoc.recipe.entry import RecipeEntry
from flpoc.recipe.job import Job
from flpoc.recipe.kinds import DataKind, FrameworkType
from flpoc.recipe.parameters import (
    best_by,
    factors,
    given_of,
    job_name,
    keyed,
    pattern,
    plain,
    seed_of,
    text,
    truth,
    whole,
    word,
)  # fmt: skip
from flpoc.recipe.scripts import ADAPTERS, of_scripts
from flpoc.recipe.spec import Recipe
from flpoc.recipe.start import start_of
from flpoc.workflows.persisting import ModelPersistor


class FedAvgRecipe(Recipe):
    """Federated averaging (McMahan et al. 2017, arXiv:1602.05629).

    Every site runs ``train_script``, which receives the model and sends what it has made of it with
    :mod:`flpoc.client`; the next model is the mean, weighted by what the scripts say they trained on.

    Args:
        name: Name of the job.
        model: The model to start from: arrays, a model of the framework, or ``{"class_path": "module.Class", "args":
            {...}}``, which is made in the controller. None: the sites start from their own.
        initial_ckpt: Absolute path of a checkpoint at the server, below a folder that its policy grants
            (``checkpoints``): .safetensors, .npz, or what the framework's plugin reads. It comes before *model*.
        min_clients: How many sites it takes to start; every connected site takes part.
        num_rounds: Number of rounds.
        train_script: What the sites run.
        train_args: Its arguments, as one text or a list.
        aggregator: Instead of the weighted mean: name of an installed aggregator (``median``), or keys and values with
            its ``name`` and settings, or an object of your own :class:`ModelAggregator`. *exclude_vars* and
            *aggregation_weights* then have no effect.
        aggregator_data_kind: What your own aggregator gets: WEIGHTS, or WEIGHT_DIFF with *params_transfer_type* DIFF.
        launch_external_process: Run the script by *command*. A script is always a process of its own.
        command: What stands before the script; ``python3 -u`` is the site's Python.
        launch_once: One process of the script for the whole job; False: one for each task.
        launch_timeout: How long a script may take to connect, in seconds; None: as long as it takes.
        shutdown_timeout: How long a script may take to end by itself, in seconds.
        framework: What ``flare.receive`` gives: pytorch, tensorflow, numpy or raw (NumPy arrays).
        server_expected_format: Has no effect: models always travel as safetensors.
        params_transfer_type: FULL: the model travels back. DIFF: its change, computed beside the script.
        model_persistor: An object of your own :class:`ModelPersistor`: loads the model to start from where neither
            *model* nor *initial_ckpt* is given, and hears of every model that is committed.
        per_site_config: What is different at some sites, by name: train_script, train_args, launch_external_process,
            command, framework, server_expected_format, params_transfer_type, launch_once, launch_timeout,
            shutdown_timeout.
        key_metric: Which metric says which model is the best.
        key_metric_mode: ``max`` or ``min``; None: as *stop_cond* implies, else ``max``.
        stop_cond: Good enough: ``METRIC OP NUMBER``, like ``accuracy >= 0.9``.
        patience: With *stop_cond*: end after so many rounds without an improvement.
        best_model_filename: Under which name the best model is found in the results, too.
        save_filename: The same, as older programs say it.
        exclude_vars: A regular expression; tensors in whose name it is found stay as they are.
        aggregation_weights: By how much a site counts more or less, by name; 1 for those not named.
        server_memory_gc_rounds: Collect garbage in the controller every so many rounds; 0: never.
        client_memory_gc_rounds: The same beside the script.
        cuda_empty_cache: Empty the cache of graphics processors then, too.
        enable_tensor_disk_offload: Has no effect: updates are always files, and aggregated block by block.
        clients_per_round: How many sites train in a round, drawn by the seed; None: all.
        seed: From which every site's and round's seed is derived.

    Raises:
        ValueError: A parameter cannot be used; the message names it.
    """

    CATALOGUE = RecipeEntry(
        name="fedavg",
        description="Federated averaging, of models of any framework.",
        framework="raw",
        algorithm="fedavg",
        aggregation="weighted-mean",
        state_exchange="full-model",
        client_requirements={
            "script": "receives and sends with flpoc.client: params are what `framework` says",
            "weight": "says how much it trained on in meta, as NUM_STEPS_CURRENT_ROUND; 1 if it does not",
        },
        framework_support=("numpy", "pytorch", "tensorflow", "raw"),
        heterogeneity_support=("scripts and arguments by site", "weights by amount of training"),
        privacy_compatible=("filters of the job", "filters of the sites' policies"),
        notes=("aggregator= takes median, trimmed_mean and krum, which some wrong sites cannot mislead.",),
    )

    def __init__(
        self,
        *,
        name: str = "fedavg",
        model: Any = None,
        initial_ckpt: str | None = None,
        min_clients: int,
        num_rounds: int = 2,
        train_script: str,
        train_args: str | list[str] = "",
        aggregator: ModelAggregator | Mapping[str, Any] | str | None = None,
        aggregator_data_kind: str = "WEIGHTS",
        launch_external_process: bool = False,
        command: str = "python3 -u",
        launch_once: bool = True,
        launch_timeout: float | None = 300.0,
        shutdown_timeout: float = 0.0,
        framework: str = "pytorch",
        server_expected_format: str = "numpy",
        params_transfer_type: str = "FULL",
        model_persistor: ModelPersistor | None = None,
        per_site_config: dict[str, dict[str, Any]] | None = None,
        key_metric: str = "accuracy",
        key_metric_mode: str | None = None,
        stop_cond: str | None = None,
        patience: int | None = None,
        best_model_filename: str | None = None,
        save_filename: str | None = None,
        exclude_vars: str | None = None,
        aggregation_weights: dict[str, float] | None = None,
        server_memory_gc_rounds: int = 0,
        client_memory_gc_rounds: int = 0,
        cuda_empty_cache: bool = False,
        enable_tensor_disk_offload: bool = False,
        clients_per_round: int | None = None,
        seed: int = 0,
    ) -> None:
        given = given_of(locals())
        super().__init__(averaging(given))
        self.framework = str(framework)


def averaging(given: Mapping[str, Any]) -> Job:
    """The job of a recipe that averages, in whatever way.

    Args:
        given: Parameters of :class:`FedAvgRecipe`; those that a recipe does not have count as their defaults.

    Raises:
        ValueError: A parameter cannot be used; the message names it.
    """
    job = trained(given, "fedavg")
    rest = {key: given[key] for key in ("key_metric_mode", "stop_cond", "patience") if key in given}
    job.of_workflow.update(
        best_by(
            given.get("key_metric", "accuracy"),
            rest.get("key_metric_mode"),
            rest.get("stop_cond"),
            rest.get("patience"),
        )
    )
    if given.get("clients_per_round") is not None:
        job.of_workflow["clients_per_round"] = whole("clients_per_round", given["clients_per_round"])
    _aggregate(job, given)
    truth("enable_tensor_disk_offload", given.get("enable_tensor_disk_offload", False))
    job.best_model_filename = _best_name(given)
    return job


def trained(given: Mapping[str, Any], workflow: str) -> Job:
    """A job in which sites train in rounds, with what all such recipes have."""
    word("framework", given.get("framework", "numpy"), FrameworkType)
    scripts, paths = of_scripts(given)
    settings = {
        "workflow": workflow,
        "rounds": whole("num_rounds", given["num_rounds"]),
        "min_clients": whole("min_clients", given["min_clients"]),
        "seed": seed_of(given.get("seed", 0)),
        **scripts,
    }
    job = Job(job_name(given["name"]), settings, paths)
    job.of_workflow["memory_gc_rounds"] = whole("server_memory_gc_rounds", given.get("server_memory_gc_rounds", 0), 0)
    start_from(job, given)
    return job


def start_from(job: Job, given: Mapping[str, Any]) -> None:
    """Say what the job starts from: a checkpoint, what a persistor loads, or a model."""
    persistor = given.get("model_persistor")
    if persistor is not None:
        job.of_workflow["persistor"] = job.add_object("model_persistor", persistor)
    if given.get("initial_ckpt") is not None:
        path = text("initial_ckpt", given["initial_ckpt"])
        if not Path(path).is_absolute():
            raise ValueError(f"initial_ckpt: {path!r} is not an absolute path; it is looked for at the server")
        job.of_workflow["initial_checkpoint"] = path
        return
    framework = ADAPTERS[str(given.get("framework", "numpy"))]
    start = start_of(given.get("model"), framework, job.settings["seed"])
    job.model = start.arrays
    job.files |= start.files
    job.texts |= start.texts
    if start.ref and persistor is not None:
        raise ValueError("model_persistor: a model that is described is made by one of its own: leave out one of them")
    if start.ref:
        job.of_workflow["persistor"] = dict(start.ref)


def _aggregate(job: Job, given: Mapping[str, Any]) -> None:
    """Say what makes one model of the updates."""
    aggregator, kind = given.get("aggregator"), given.get("aggregator_data_kind", "WEIGHTS")
    built_in: dict[str, Any] = {}
    if given.get("exclude_vars") is not None:
        built_in["exclude"] = pattern("exclude_vars", given["exclude_vars"])
    if given.get("aggregation_weights") is not None:
        built_in["weights"] = factors("aggregation_weights", given["aggregation_weights"])
    kind = word("aggregator_data_kind", kind, DataKind)
    if aggregator is None:
        job.settings |= {"aggregator": "mean", "aggregator_settings": built_in}
        return
    if built_in:
        names = " and ".join({"exclude": "exclude_vars", "weights": "aggregation_weights"}[key] for key in built_in)
        warnings.warn(f"{names}: no effect beside an aggregator of your own", stacklevel=4)
    if isinstance(aggregator, (str, Mapping)):
        said = {"name": aggregator} if isinstance(aggregator, str) else keyed("aggregator", aggregator)
        name = text("aggregator", said.pop("name", None))
        job.settings |= {"aggregator": name, "aggregator_settings": plain("aggregator", said)}
        return
    ref = job.add_object("aggregator", aggregator)
    transfer = given.get("params_transfer_type", "FULL")
    if (kind == DataKind.WEIGHT_DIFF) and transfer != "DIFF":
        raise ValueError("aggregator_data_kind: WEIGHT_DIFF needs params_transfer_type='DIFF': else models are sent")
    declared = getattr(aggregator, "data_kind", None)
    if declared is not None and declared != kind:
        raise ValueError(f"aggregator_data_kind: it is {kind}, but {type(aggregator).__name__} declares {declared}")
    job.settings |= {"aggregator": "code", "aggregator_settings": ref}


def _best_name(given: Mapping[str, Any]) -> str:
    """Under which name the best model is found; two spellings of the parameter must agree."""
    best, older = given.get("best_model_filename"), given.get("save_filename")
    if older is not None:
        warnings.warn("save_filename: say best_model_filename", DeprecationWarning, stacklevel=4)
        if best is not None and best != older:
            raise ValueError(f"save_filename: {older!r} is not best_model_filename {best!r}: leave it out")
        best = older
    if best is None:
        return ""
    name = text("best_model_filename", best)
    if name in (".", "..") or name != Path(name).name:
        raise ValueError(f"best_model_filename: {name!r} is a path; wanted is the name of a file")
    return name
