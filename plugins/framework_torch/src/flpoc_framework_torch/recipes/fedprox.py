"""FedProx with PyTorch models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flpoc import recipe
from flpoc.aggregating import ModelAggregator
from flpoc.recipe import ModelPersistor, RecipeEntry
from flpoc.recipe.parameters import given_of


class FedProxRecipe(recipe.FedProxRecipe):
    """FedProx: sites are held near the model they received (Li et al. 2020, arXiv:1812.06127).

    A script adds :class:`flpoc_framework_torch.PTFedProxLoss` to its loss, with ``mu`` from the meta of the received
    model, ``model.meta["fedprox_mu"]``; a patched Lightning trainer does so by itself.

    ``model`` is an ``nn.Module``, whose state dict is what the job starts from; its state dict; ``{"class_path":
    "module.Class", "args": {...}}``; or None. ``initial_ckpt`` may be a file of ``torch.save`` with a state dict:
    weights only. ``best_model_filename`` may end in ``.pt``. Scripts receive tensors.

    Parameters are those of :class:`flpoc.recipe.FedProxRecipe`.

    Raises:
        ValueError: A parameter cannot be used; the message names it.
    """

    CATALOGUE = RecipeEntry(
        name="fedprox-pt",
        description="FedProx with PyTorch models: sites are held near the model they received.",
        framework="pytorch",
        algorithm="fedprox",
        aggregation="weighted-mean",
        state_exchange="full-model",
        client_requirements={
            "script": "adds PTFedProxLoss(mu=model.meta['fedprox_mu']) to its loss; a patched Lightning trainer does",
            "weight": "says how much it trained on in meta, as NUM_STEPS_CURRENT_ROUND; 1 if it does not",
            "package": "flpoc-framework-torch and torch, at sites that train",
        },
        framework_support=("pytorch", "lightning"),
        heterogeneity_support=("data that differ by site", "sites that train for different times"),
        privacy_compatible=("filters of the job", "filters of the sites' policies"),
        optional_dependencies=("torch", "pytorch-lightning"),
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
        super().__init__(**given_of(locals()), framework="pytorch")
