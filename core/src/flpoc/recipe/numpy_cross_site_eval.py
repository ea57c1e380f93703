"""Evaluating models at all sites, without training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flpoc.recipe.entry import RecipeEntry
from flpoc.recipe.fedavg import trained
from flpoc.recipe.parameters import given_of
from flpoc.recipe.spec import Recipe
from flpoc.recipe.utils import cross_site_settings


class NumpyCrossSiteEvalRecipe(Recipe):
    """Cross-site evaluation: every site judges the model to start from, and the models that sites have themselves.

    Sites are asked for their own model (``flare.is_submit_model()``; one without such a model sends nothing), then
    each model goes to each site (``flare.is_evaluate()``). ``cross_site_val/cross_val_results.json`` in the results
    has ``{site with the data: {owner of the model: metrics}}``; the server's model is called ``server``.

    Args:
        name: Name of the job.
        model: The server's model: an array, a list, or a dict of them by name; None: only those of the sites.
        initial_ckpt: Absolute path of the server's model at the server, below a folder that its policy grants.
        min_clients: How many sites it takes to start.
        eval_script: What the sites run.
        eval_args: Its arguments, as one text or a list.
        submit_model_timeout: How long sites may take to send their own model, in seconds.
        validation_timeout: How long sites may take to judge a model, in seconds.
        participating_clients: Which sites take part; None: all that are connected when it starts.
        per_site_config: What is different at some sites, by name.
        seed: From which every site's seed is derived.

    Raises:
        ValueError: A parameter cannot be used; the message names it.
    """

    CATALOGUE = RecipeEntry(
        name="cross-site-eval-numpy",
        description="Every site judges the server's model and those of the other sites; nothing is trained.",
        framework="numpy",
        algorithm="cross-site-evaluation",
        aggregation="none",
        state_exchange="full-model",
        client_requirements={
            "script": "sends metrics where flare.is_evaluate(), its own model where flare.is_submit_model()"
        },
        framework_support=("numpy",),
        heterogeneity_support=("scripts and arguments by site",),
        privacy_compatible=("filters of the job", "filters of the sites' policies"),
    )

    def __init__(
        self,
        *,
        name: str = "cross_site_eval",
        model: Any = None,
        initial_ckpt: str | None = None,
        min_clients: int,
        eval_script: str,
        eval_args: str | list[str] = "",
        submit_model_timeout: float = 600,
        validation_timeout: float = 6000,
        participating_clients: Sequence[str] | None = None,
        per_site_config: dict[str, dict[str, Any]] | None = None,
        seed: int = 0,
    ) -> None:
        given = {**given_of(locals()), "num_rounds": 1, "train_script": eval_script, "train_args": eval_args}
        job = trained(given, "cross_site_evaluation")
        del job.of_workflow["memory_gc_rounds"]
        job.of_workflow.update(cross_site_settings(submit_model_timeout, validation_timeout, participating_clients))
        super().__init__(job)
        self.framework = "numpy"
