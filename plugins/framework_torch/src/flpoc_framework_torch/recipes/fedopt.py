"""Federated averaging of PyTorch models with an optimiser at the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flpoc import recipe
from flpoc.recipe import ModelPersistor, RecipeEntry
from flpoc.recipe.parameters import given_of, keyed, plain

#: Optimisers by the names that PyTorch has for them; which of their arguments there are, and how they are called here.
_OF_TORCH: Final = {
    "torch.optim.SGD": ("sgd", {"lr": "lr", "momentum": "momentum"}),
    "torch.optim.Adam": ("adam", {"lr": "lr", "betas": "betas", "eps": "tau"}),
    "torch.optim.Adagrad": ("adagrad", {"lr": "lr", "eps": "tau"}),
}
#: The same for schedules of the learning rate.
_SCHEDULES: Final = {
    "torch.optim.lr_scheduler.StepLR": ("step", {"step_size": "step_size", "gamma": "gamma"}),
    "torch.optim.lr_scheduler.MultiStepLR": ("multistep", {"milestones": "milestones", "gamma": "gamma"}),
    "torch.optim.lr_scheduler.ExponentialLR": ("exponential", {"gamma": "gamma"}),
    "torch.optim.lr_scheduler.CosineAnnealingLR": ("cosine", {"T_max": "t_max", "eta_min": "eta_min"}),
    "torch.optim.lr_scheduler.LinearLR": (
        "linear", {"start_factor": "start_factor", "end_factor": "end_factor", "total_iters": "total_iters"},
    ),
}  # fmt: skip
_DEFAULT: Final = {"path": "torch.optim.SGD", "args": {"lr": 1.0, "momentum": 0.6}}


class FedOptRecipe(recipe.FedOptRecipe):
    """FedOpt: the server takes the mean change of a round as a gradient (Reddi et al. 2021, arXiv:2003.00295).

    The step is taken by flpoc itself, block by block, as the paper has it, so the server needs no PyTorch: SGD with
    momentum is that of PyTorch; Adam, without correction of the moments' start, is the paper's FedAdam, whose ``tau``
    is ``eps``.

    ``model`` is an ``nn.Module``, whose state dict is what the job starts from; its state dict; ``{"class_path":
    "module.Class", "args": {...}}``; or None. ``initial_ckpt`` may be a file of ``torch.save`` with a state dict:
    weights only. ``best_model_filename`` may end in ``.pt``. Scripts receive tensors.

    Parameters are those of :class:`flpoc.recipe.FedOptRecipe`, and:

    Args:
        optimizer_args: ``{"path": "torch.optim.SGD", "args": {"lr": 1.0, "momentum": 0.6}}``, which is the default;
            likewise ``torch.optim.Adam`` and ``torch.optim.Adagrad``. With *optimizer*: its arguments.
        lr_scheduler_args: ``{"path": "torch.optim.lr_scheduler.StepLR", "args": {"step_size": 10}}``; likewise
            MultiStepLR, ExponentialLR, CosineAnnealingLR and LinearLR, with PyTorch's arguments. With *optimizer*: as
            :class:`flpoc.recipe.FedOptRecipe` has it. None: the rate does not change.
        source_model: Has no effect: there is one model.
        device: Has no effect: the step is taken on the CPU, block by block.

    Raises:
        ValueError: A parameter cannot be used; the message names it.
    """

    CATALOGUE = RecipeEntry(
        name="fedopt-pt",
        description="FedOpt with PyTorch models: SGD with momentum, Adam, Yogi or Adagrad at the server.",
        framework="pytorch",
        algorithm="fedopt",
        aggregation="server-optimizer",
        state_exchange="weight-diff",
        client_requirements={
            "script": "receives and sends with flpoc.client, or flpoc.client.lightning: params are tensors by name",
            "weight": "says how much it trained on in meta, as NUM_STEPS_CURRENT_ROUND; 1 if it does not",
            "package": "flpoc-framework-torch and torch, at sites that train",
        },
        framework_support=("pytorch", "lightning"),
        heterogeneity_support=("scripts and arguments by site", "weights by amount of training"),
        privacy_compatible=("filters of the job", "filters of the sites' policies"),
        optional_dependencies=("torch", "pytorch-lightning"),
        notes=("Statistics of batch normalisation are averaged: they are no parameters.",),
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
        optimizer: str | None = None,
        optimizer_args: Mapping[str, Any] | None = None,
        lr_scheduler_args: Mapping[str, Any] | None = None,
        source_model: str = "model",
        device: str | None = None,
        launch_external_process: bool = False,
        command: str = "python3 -u",
        launch_once: bool = True,
        launch_timeout: float | None = 300.0,
        shutdown_timeout: float = 0.0,
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
        for name_only in ("source_model", "device"):
            given.pop(name_only)
        if optimizer is None:
            given["optimizer"], given["optimizer_args"] = of_torch(optimizer_args or _DEFAULT)
            given["lr_scheduler_args"] = None if lr_scheduler_args is None else schedule_of_torch(lr_scheduler_args)
        super().__init__(**given, framework="pytorch")


def of_torch(said: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The server's optimiser and its arguments, from how PyTorch calls them.

    Raises:
        ValueError: There is none of this name, or it has no such argument here.
    """
    optimizer, args = _translated("optimizer_args", said, _OF_TORCH)
    return optimizer, {"lr": 1e-2 if optimizer == "adagrad" else 1e-3, **args}


def schedule_of_torch(said: Mapping[str, Any]) -> dict[str, Any]:
    """The schedule of the server's learning rate, from how PyTorch calls it.

    Raises:
        ValueError: There is none of this name, or it has no such argument here.
    """
    name, args = _translated("lr_scheduler_args", said, _SCHEDULES)
    return {"name": name, **args}


def _translated(
    parameter: str, said: Mapping[str, Any], known: Mapping[str, tuple[str, Mapping[str, str]]]
) -> tuple[str, dict[str, Any]]:
    found = keyed(parameter, said, ("path", "args", "config_type"))
    path = found.get("path")
    if not isinstance(path, str) or path not in known:
        raise ValueError(f"{parameter}.path: {path!r} is none of {', '.join(known)}")
    name, names = known[path]
    args = plain(f"{parameter}.args", keyed(f"{parameter}.args", found.get("args") or {}, names))
    return name, {names[key]: args[key] for key in args}
