"""Federated averaging with an optimiser at the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flpoc.errors import ConfigError
from flpoc.recipe.entry import RecipeEntry
from flpoc.recipe.fedavg import averaging
from flpoc.recipe.parameters import factors, given_of, keyed, number, pattern, plain
from flpoc.recipe.spec import Recipe
from flpoc.settings import structure
from flpoc.workflows.persisting import ModelPersistor
from flpoc.workflows.schedules import LrSchedule

_OPTIMIZERS: Final = ("adam", "yogi", "adagrad", "sgd")
_ARGS: Final = ("lr", "betas", "tau", "momentum")


class FedOptRecipe(Recipe):
    """FedOpt: the server takes the mean change of a round as a gradient (Reddi et al. 2021, arXiv:2003.00295).

    ``adam``, ``yogi`` and ``adagrad`` are FedAdam, FedYogi and FedAdagrad of the paper, ``sgd`` with momentum is
    FedAvgM (Hsu et al. 2019, arXiv:1909.06335). Sites send changes (DIFF), computed beside the script; models are
    compared with the one that was received. The optimiser's state is committed with every round.

    Parameters are those of :class:`FedAvgRecipe`, without those that choose another aggregator, and:

    Args:
        optimizer: What takes the step: adam, yogi, adagrad or sgd.
        optimizer_args: Its arguments: ``lr``, ``betas`` (first and second moment), ``tau`` (degree of adaptivity), and
            ``momentum`` of sgd.
        lr_scheduler_args: How the server's learning rate changes: its ``name`` (step, multistep, exponential, cosine or
            linear) and its settings, as ``lr_schedule`` of the aggregator ``fedopt`` has them; None: it does not.

    Raises:
        ValueError: A parameter cannot be used; the message names it.
    """

    CATALOGUE = RecipeEntry(
        name="fedopt",
        description="FedOpt: Adam, Yogi, Adagrad or SGD with momentum at the server.",
        framework="numpy",
        algorithm="fedopt",
        aggregation="server-optimizer",
        state_exchange="weight-diff",
        client_requirements={
            "script": "receives and sends with flpoc.client, like one for fedavg",
            "weight": "says how much it trained on in meta, as NUM_STEPS_CURRENT_ROUND; 1 if it does not",
        },
        framework_support=("numpy", "raw"),
        heterogeneity_support=("scripts and arguments by site", "weights by amount of training"),
        privacy_compatible=("filters of the job", "filters of the sites' policies"),
        notes=("In a first round without a model, the first one is the plain mean.",),
    )

    def __init__(
        self,
        *,
        name: str = "fedopt",
        model: Any = None,
        initial_ckpt: str | None = None,
        min_clients: int,
        num_rounds: int = 2,
        train_script: str,
        train_args: str | list[str] = "",
        optimizer: str = "adam",
        optimizer_args: Mapping[str, Any] | None = None,
        lr_scheduler_args: Mapping[str, Any] | None = None,
        launch_external_process: bool = False,
        command: str = "python3 -u",
        launch_once: bool = True,
        launch_timeout: float | None = 300.0,
        shutdown_timeout: float = 0.0,
        framework: str = "numpy",
        server_expected_format: str = "numpy",
        params_transfer_type: str = "DIFF",
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
        settings = _settings(optimizer, optimizer_args)
        if given.pop("lr_scheduler_args") is not None:
            settings["lr_schedule"] = _schedule(lr_scheduler_args)
        if given.pop("exclude_vars") is not None:
            settings["exclude"] = pattern("exclude_vars", exclude_vars)
        if given.pop("aggregation_weights") is not None:
            settings["weights"] = factors("aggregation_weights", aggregation_weights)
        super().__init__(averaging({**given, "aggregator": {"name": "fedopt", **settings}}))
        self.framework = str(framework)


def _schedule(said: Any) -> dict[str, Any]:
    found: dict[str, Any] = plain("lr_scheduler_args", keyed("lr_scheduler_args", said))
    try:
        structure(found, LrSchedule, where="lr_scheduler_args")
    except ConfigError as error:
        raise ValueError(error.message + (f": {error.hint}" if error.hint else "")) from None
    return found


def _settings(optimizer: Any, args: Mapping[str, Any] | None) -> dict[str, Any]:
    if optimizer not in _OPTIMIZERS:
        raise ValueError(f"optimizer: {optimizer!r} is none of {', '.join(_OPTIMIZERS)}")
    said: dict[str, Any] = plain("optimizer_args", keyed("optimizer_args", args or {}, _ARGS))
    for key in ("lr", "tau"):
        if key in said:
            number(f"optimizer_args.{key}", said[key], above=0)
    betas = said.get("betas", [0.0, 0.0])
    if not isinstance(betas, list) or len(betas) != 2:
        raise ValueError(f"optimizer_args.betas: {betas!r}: wanted are two numbers")
    for key, value in (("betas", betas[0]), ("betas", betas[1]), ("momentum", said.get("momentum", 0.0))):
        if not number(f"optimizer_args.{key}", value) < 1:
            raise ValueError(f"optimizer_args.{key}: {value!r} is not below 1")
    return {"optimizer": str(optimizer), **said}
