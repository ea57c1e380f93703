"""One PyTorch model that goes from site to site."""

from __future__ import annotations

from typing import Any

from flpoc import recipe
from flpoc.recipe import ModelPersistor, RecipeEntry
from flpoc.recipe.parameters import given_of


class CyclicRecipe(recipe.CyclicRecipe):
    """Cyclic weight transfer: each site trains on from what the one before it has made (Chang et al. 2018).

    ``model`` is an ``nn.Module``, whose state dict is what the job starts from; its state dict; ``{"class_path":
    "module.Class", "args": {...}}``; or None. ``initial_ckpt`` may be a file of ``torch.save`` with a state dict:
    weights only. ``best_model_filename`` may end in ``.pt``. Scripts receive tensors.

    Parameters are those of :class:`flpoc.recipe.CyclicRecipe`.

    Raises:
        ValueError: A parameter cannot be used; the message names it.
    """

    CATALOGUE = RecipeEntry(
        name="cyclic-pt",
        description="One PyTorch model goes from site to site.",
        framework="pytorch",
        algorithm="cyclic",
        aggregation="none",
        state_exchange="full-model",
        client_requirements={
            "script": "receives and sends with flpoc.client, or flpoc.client.lightning: params are tensors by name",
            "package": "flpoc-framework-torch and torch, at sites that train",
        },
        framework_support=("pytorch", "lightning"),
        heterogeneity_support=("scripts and arguments by site",),
        privacy_compatible=("filters of the job", "filters of the sites' policies"),
        optional_dependencies=("torch", "pytorch-lightning"),
    )

    def __init__(
        self,
        *,
        name: str = "cyclic",
        model: Any = None,
        initial_ckpt: str | None = None,
        min_clients: int,
        num_rounds: int = 2,
        train_script: str,
        train_args: str | list[str] = "",
        order: str = "fixed",
        task_assignment_timeout: float = 10,
        launch_external_process: bool = False,
        command: str = "python3 -u",
        launch_once: bool = True,
        launch_timeout: float | None = 300.0,
        shutdown_timeout: float = 0.0,
        server_expected_format: str = "numpy",
        params_transfer_type: str = "FULL",
        model_persistor: ModelPersistor | None = None,
        per_site_config: dict[str, dict[str, Any]] | None = None,
        server_memory_gc_rounds: int = 0,
        client_memory_gc_rounds: int = 0,
        cuda_empty_cache: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(**given_of(locals()), framework="pytorch")
