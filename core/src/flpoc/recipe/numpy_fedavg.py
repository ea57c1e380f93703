"""Federated averaging of NumPy arrays."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Final

from flpoc.errors import did_you_mean
from flpoc.jobs.names import JOB_NAME, SITE_NAME
from flpoc.jobs.spec import DEFAULT_SITE
from flpoc.recipe.entry import RecipeEntry
from flpoc.recipe.job import Job
from flpoc.recipe.recipe import Recipe

#: Name of the one parameter of a model that is a single array.
NUMPY_KEY: Final = "numpy_key"
_PER_SITE: Final = ("train_script", "train_args")
_RESERVED: Final = ("server", "@ALL", DEFAULT_SITE)


class NumpyFedAvgRecipe(Recipe):
    """Federated averaging of models that are NumPy arrays (McMahan et al. 2017, arXiv:1602.05629).

    Every site runs ``train_script``, which receives the model and sends what
    it has made of it with :mod:`flpoc.client`; the next model is the mean,
    weighted by what the scripts say they trained on.

    Args:
        name: Name of the job.
        model: The model to start from: an array, a list, or a dict of them by name. A list becomes float32; a
            single array is the parameter ``numpy_key``. None: the sites start from their own.
        min_clients: How many sites it takes to start; every connected site takes part.
        num_rounds: Number of rounds.
        train_script: What the sites run.
        train_args: Its arguments, as one text or a list.
        aggregator: Name of an installed aggregator instead of the weighted mean.
        per_site_config: Other ``train_script`` and ``train_args`` for some sites, by name.

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
        privacy_compatible=("filters of the sites' policies",),
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
        min_clients: int,
        num_rounds: int = 2,
        train_script: str,
        train_args: str | list[str] = "",
        aggregator: str | None = None,
        per_site_config: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        if not isinstance(name, str) or not JOB_NAME.match(name):
            raise ValueError(f"name: {name!r} is not a job name (letters, digits, . _ -)")
        general = {"train_script": train_script, "train_args": train_args}
        given = {DEFAULT_SITE: general, **_per_site(per_site_config or {}, general)}
        settings = {
            "workflow": "fedavg",
            "rounds": _whole("num_rounds", num_rounds),
            "min_clients": _whole("min_clients", min_clients),
            "aggregator": _text("aggregator", aggregator or "mean"),
            "scripts": {site: _script(site, entry) for site, entry in given.items()},
        }
        scripts = tuple(dict.fromkeys(str(entry["train_script"]) for entry in given.values()))
        super().__init__(Job(name, settings, scripts, None if model is None else tensors(model)))


def tensors(model: Any) -> dict[str, Any]:
    """The arrays of a model, by name.

    Raises:
        ValueError: It holds something that is no array of finite numbers.
    """
    parts = dict(model) if isinstance(model, Mapping) else {NUMPY_KEY: model}
    if not parts:
        raise ValueError("model: there is nothing in it; None means that the sites start from their own")
    return {_text("model: the name of a parameter", name): _array(name, value) for name, value in parts.items()}


def _array(name: str, value: Any) -> Any:
    import numpy as np

    from flpoc.models.tensors import dtype_name

    try:
        # whole numbers of a list would be averaged as whole numbers
        array = np.asarray(value) if hasattr(value, "dtype") else np.asarray(value, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise ValueError(f"model: {name!r} is no array of numbers: {error}") from None
    if not dtype_name(array.dtype):
        raise ValueError(f"model: {name!r} is an array of {array.dtype}, which no model file can hold")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"model: {name!r} holds NaN or infinity")
    return array


def _per_site(config: Mapping[str, Any], general: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What each named site runs, complete."""
    found = {}
    for site, entry in config.items():
        if site in _RESERVED or not isinstance(site, str) or not SITE_NAME.match(site):
            raise ValueError(f"per_site_config: {site!r} is no name of a site")
        if not isinstance(entry, Mapping):
            raise ValueError(f"per_site_config[{site!r}]: wanted are keys and values, not {type(entry).__name__}")
        for key in entry:
            if key not in _PER_SITE:
                raise ValueError(f"per_site_config[{site!r}]: {key}: {did_you_mean(str(key), _PER_SITE)}")
        found[site] = {**general, **entry}
    return found


def _script(site: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    where = "" if site == DEFAULT_SITE else f"per_site_config[{site!r}]: "
    given, args = _text(f"{where}train_script", entry["train_script"]), entry["train_args"]
    if isinstance(args, str):
        try:
            args = shlex.split(args)
        except ValueError as error:
            raise ValueError(f"{where}train_args: {error}: {args!r}") from None
    if not isinstance(args, (list, tuple)) or not all(isinstance(one, str) for one in args):
        raise ValueError(f"{where}train_args: wanted is a text, or a list of texts, not {args!r}")
    return {"script": PurePath(given).name, "args": list(args)}


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1_000_000:
        raise ValueError(f"{name}: {value!r} is not allowed: it must be a whole number from 1 to 1000000")
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name}: wanted is a text, not {value!r}")
    return value
