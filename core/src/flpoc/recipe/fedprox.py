"""Federated averaging whose sites do not go far from the model they were given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flpoc.aggregating import ModelAggregator
from flpoc.recipe.entry import RecipeEntry
from flpoc.recipe.fedavg import averaging
from flpoc.recipe.parameters import given_of, number
from flpoc.recipe.spec import Recipe
from flpoc.workflows.persisting import ModelPersistor


class FedProxRecipe(Recipe):
    """FedProx: federated averaging with a proximal term (Li et al. 2020, arXiv:1812.06127).

    Every task says ``fedprox_mu`` in its meta. A script adds ``mu / 2 * ||w - w_received||^2`` to its loss; that is
    ``mu * (w - w_received)`` to its gradient. With mu = 0 it is FedAvg.

    Parameters are those of :class:`FedAvgRecipe`, and:

    Args:
        fedprox_mu: How strongly sites are held at the model they received, >= 0.

    Raises:
        ValueError: A parameter cannot be used; the message names it.
    """

    CATALOGUE = RecipeEntry(
        name="fedprox",
        description="FedProx: sites are held near the model they received.",
        framework="numpy",
        algorithm="fedprox",
        aggregation="weighted-mean",
        state_exchange="full-model",
        client_requirements={
            "script": "adds mu * (w - w_received) to its gradient; mu is model.meta['fedprox_mu']",
            "weight": "says how much it trained on in meta, as NUM_STEPS_CURRENT_ROUND; 1 if it does not",
        },
        framework_support=("numpy", "raw"),
        heterogeneity_support=("data that differ by site", "sites that train for different times"),
        privacy_compatible=("filters of the job", "filters of the sites' policies"),
    )

    def __init__(
        self,
        *,
        name: str = "fedprox",
        model: Any = None,
        initial_ckpt: str | None = None,
        min_clients: int,
        num_rounds: int = 2,
        train_script: str,
        train_args: str | list[str] = "",
        fedprox_mu: float = 0.01,
        aggregator: ModelAggregator | Mapping[str, Any] | str | None = None,
        aggregator_data_kind: str = "WEIGHTS",
        launch_external_process: bool = False,
        command: str = "python3 -u",
        launch_once: bool = True,
        launch_timeout: float | None = 300.0,
        shutdown_timeout: float = 0.0,
        framework: str = "numpy",
        server_expected_format: str = "numpy",
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
        cuda_empty_cache: bool = False,
        clients_per_round: int | None = None,
        seed: int = 0,
    ) -> None:
        given = given_of(locals())
        mu = number("fedprox_mu", fedprox_mu)
        super().__init__(averaging(given))
        self.framework = str(framework)
        self.job.of_workflow["task_meta"] = {"fedprox_mu": mu}
