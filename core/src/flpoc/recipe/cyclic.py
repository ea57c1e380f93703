"""One model that goes from site to site."""

from __future__ import annotations

from typing import Any

from flpoc.recipe.entry import RecipeEntry
from flpoc.recipe.fedavg import trained
from flpoc.recipe.parameters import given_of, number
from flpoc.recipe.spec import Recipe
from flpoc.workflows.persisting import ModelPersistor


class CyclicRecipe(Recipe):
    """Cyclic weight transfer: each site trains on from what the one before it has made (Chang et al. 2018).

    Chang et al.: Distributed deep learning networks among institutions for medical imaging. JAMIA 25(8), 2018,
    doi:10.1093/jamia/ocy017. A round is over when every site has had the model once.

    Parameters are those of :class:`FedAvgRecipe` that do not say how updates are averaged, and:

    Args:
        order: ``fixed``: the sites in the order of their names. ``random``: another order each round, by the seed.
        task_assignment_timeout: Has no effect: a site is told at once that it is its turn.

    Raises:
        ValueError: A parameter cannot be used; the message names it.
    """

    CATALOGUE = RecipeEntry(
        name="cyclic",
        description="One model goes from site to site.",
        framework="numpy",
        algorithm="cyclic",
        aggregation="none",
        state_exchange="full-model",
        client_requirements={"script": "receives and sends with flpoc.client, like one for fedavg"},
        framework_support=("numpy", "raw"),
        heterogeneity_support=("scripts and arguments by site",),
        privacy_compatible=("filters of the job", "filters of the sites' policies"),
        template_references=("cyclic_np",),
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
        framework: str = "numpy",
        server_expected_format: str = "numpy",
        params_transfer_type: str = "FULL",
        model_persistor: ModelPersistor | None = None,
        per_site_config: dict[str, dict[str, Any]] | None = None,
        server_memory_gc_rounds: int = 0,
        client_memory_gc_rounds: int = 0,
        cuda_empty_cache: bool = False,
        seed: int = 0,
    ) -> None:
        given = given_of(locals())
        number("task_assignment_timeout", task_assignment_timeout)
        if order not in ("fixed", "random"):
            raise ValueError(f"order: {order!r} is neither 'fixed' nor 'random'")
        super().__init__(trained(given, "cyclic"))
        self.framework = str(framework)
        self.job.of_workflow["order"] = order
