"""Evaluating one PyTorch model at all sites."""

from __future__ import annotations

from typing import Any

from flpoc.recipe import Recipe, RecipeEntry
from flpoc.recipe.fedavg import trained
from flpoc.recipe.parameters import given_of
from flpoc.recipe.utils import cross_site_settings


class FedEvalRecipe(Recipe):
    """Every site evaluates one PyTorch model on its own data; nothing is trained.

    ``cross_site_val/cross_val_results.json`` in the results has ``{site: {"server": metrics}}``. To judge the models
    that sites have trained, too, use :func:`flpoc.recipe.utils.add_cross_site_evaluation` on a recipe that trains.

    Args:
        name: Name of the job.
        model: An ``nn.Module``, its state dict, or ``{"class_path": "module.Class", "args": {...}}``.
        eval_ckpt: Absolute path of a checkpoint at the server, below a folder that its policy grants: .safetensors,
            .npz, or a file of ``torch.save`` with a state dict. It comes before *model*.
        min_clients: How many sites it takes to start.
        eval_script: What the sites run; it sends metrics where ``flare.is_evaluate()``.
        eval_args: Its arguments, as one text or a list.
        launch_external_process: Run the script by *command*. A script is always a process of its own.
        command: What stands before the script; ``python3 -u`` is the site's Python.
        server_expected_format: Has no effect: models always travel as safetensors.
        validation_timeout: How long sites may take, in seconds.
        per_site_config: What is different at some sites, by name.
        seed: From which every site's seed is derived.

    Raises:
        ValueError: A parameter cannot be used; the message names it.
    """

    CATALOGUE = RecipeEntry(
        name="fedeval-pt",
        description="Every site evaluates one PyTorch model; nothing is trained.",
        framework="pytorch",
        algorithm="cross-site-evaluation",
        aggregation="none",
        state_exchange="full-model",
        client_requirements={
            "script": "sends metrics where flare.is_evaluate(); a patched Lightning trainer does so in validate()",
            "package": "flpoc-framework-torch and torch, at the sites",
        },
        framework_support=("pytorch", "lightning"),
        heterogeneity_support=("scripts and arguments by site",),
        privacy_compatible=("filters of the job", "filters of the sites' policies"),
        optional_dependencies=("torch", "pytorch-lightning"),
    )

    def __init__(
        self,
        *,
        name: str = "fedeval",
        model: Any = None,
        eval_ckpt: str | None = None,
        min_clients: int,
        eval_script: str,
        eval_args: str | list[str] = "",
        launch_external_process: bool = False,
        command: str = "python3 -u",
        server_expected_format: str = "numpy",
        validation_timeout: float = 6000,
        per_site_config: dict[str, dict[str, Any]] | None = None,
        seed: int = 0,
    ) -> None:
        if model is None and eval_ckpt is None:
            raise ValueError("model: there is nothing to evaluate: give model or eval_ckpt")
        renamed = {"train_script": eval_script, "train_args": eval_args, "initial_ckpt": eval_ckpt}
        job = trained(
            {**given_of(locals()), **renamed, "num_rounds": 1, "framework": "pytorch"}, "cross_site_evaluation"
        )
        del job.of_workflow["memory_gc_rounds"]
        job.of_workflow.update(cross_site_settings(validation_timeout, validation_timeout, None), site_models=False)
        super().__init__(job)
        self.framework = "pytorch"
