"""Federated averaging of NumPy arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flpoc.aggregating import ModelAggregator
from flpoc.recipe.entry import RecipeEntry
from flpoc.recipe.fedavg import averaging
from flpoc.recipe.parameters import given_of
from flpoc.recipe.spec import Recipe
from flpoc.workflows.persisting import ModelPersistor


class NumpyFedAvgRecipe(Recipe):
    """Federated averaging of models that are NumPy arrays (McMahan et al. 2017, arXiv:1602.05629).

    Every site runs ``train_script``, which receives the model and sends what
    it has made of it with :mod:`flpoc.client`; the next model is the mean,
    weighted by what the scripts say they trained on.

    Parameters are those of :class:`FedAvgRecipe` that apply to arrays.

    Args:
        name: Name of the job.
        model: The model to start from: an array, a list, or a dict of them by name. A list becomes float32; a
            single array is the parameter ``numpy_key``. None: the sites start from their own.
        initial_ckpt: Absolute path of a checkpoint at the server; it comes before *model*.
        min_clients: How many sites it takes to start; every connected site takes part.
        num_rounds: Number of rounds.
        train_script: What the sites run.
        train_args: Its arguments, as one text or a list.
        aggregator: Instead of the weighted mean: a name, a name with settings, or an object of your own.
        aggregator_data_kind: What your own aggregator gets.
        launch_external_process: Run the script by *command*.
        command: What stands before the script; ``python3 -u`` is the site's Python.
        launch_once: One process of the script for the whole job; False: one for each task.
        launch_timeout: How long a script may take to connect, in seconds; None: as long as it takes.
        shutdown_timeout: How long a script may take to end by itself, in seconds.
        params_transfer_type: FULL: the model travels back. DIFF: its change.
        model_persistor: An object of your own :class:`ModelPersistor`.
        per_site_config: What is different at some sites, by name.
        key_metric: Which metric says which model is the best.
        key_metric_mode: ``max`` or ``min``; None: as *stop_cond* implies, else ``max``.
        stop_cond: Good enough: ``METRIC OP NUMBER``.
        patience: With *stop_cond*: end after so many rounds without an improvement.
        best_model_filename: Under which name the best model is found in the results, too.
        exclude_vars: A regular expression; tensors in whose name it is found stay as they are.
        aggregation_weights: By how much a site counts more or less, by name.
        server_memory_gc_rounds: Collect garbage in the controller every so many rounds; 0: never.
        client_memory_gc_rounds: The same beside the script.
        clients_per_round: How many sites train in a round, drawn by the seed; None: all.
        seed: From which every site's and round's seed is derived.

    Raises:
        ValueError: A parameter cannot be used; the message names it.
    """

    CATALOGUE = RecipeEntry(
        name="fedavg-numpy",
        description="Federated averaging of models that are NumPy arrays.",
        framework="numpy",
        algorithm="fedavg",
        aggregation="weighted-mean",
        state_exchange="full-model",
        client_requirements={
            "script": "receives and sends with flpoc.client: params are arrays by name",
            "weight": "says how much it trained on in meta, as NUM_STEPS_CURRENT_ROUND; 1 if it does not",
        },
        framework_support=("numpy",),
        heterogeneity_support=("scripts and arguments by site", "weights by amount of training"),
        privacy_compatible=("filters of the job", "filters of the sites' policies"),
        template_references=("sag_np",),
        notes=(
            "A list becomes an array of float32; a model that is one array is the parameter numpy_key.",
            "A script may send the model (FULL) or its change (DIFF).",
        ),
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
        params_transfer_type: str = "FULL",
        model_persistor: ModelPersistor | None = None,
        per_site_config: dict[str, dict[str, Any]] | None = None,
        key_metric: str = "accuracy",
        key_metric_mode: str | None = None,
        stop_cond: str | None = None,
        patience: int | None = None,
        best_model_filename: str | None = None,
        exclude_vars: str | None = None,
        aggregation_weights: dict[str, float] | None = None,
        server_memory_gc_rounds: int = 0,
        client_memory_gc_rounds: int = 0,
        clients_per_round: int | None = None,
        seed: int = 0,
    ) -> None:
        given = given_of(locals())
        super().__init__(averaging(given))
        self.framework = "numpy"
