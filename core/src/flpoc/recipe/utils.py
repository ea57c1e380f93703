"""What can be added to any recipe. The module's name is a documented one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from flpoc.recipe.parameters import keyed, number, plain, site_names, text, truth, whole
from flpoc.recipe.spec import Recipe

#: Frameworks whose models can be evaluated at other sites.
_EVALUATED: Final = ("pytorch", "tensorflow", "numpy", "raw")
#: The workflow that does nothing but evaluate.
_EVALUATION: Final = "cross_site_evaluation"
_META: Final = ("resource_spec", "launcher_spec", "scope", "custom_props")
#: What a site must have for a script, and how other systems call it.
_NEEDS: Final = {
    "cpus": "cpus", "memory_gib": "memory_gib", "gpus": "gpus", "num_of_cpus": "cpus", "memory": "memory_gib",
    "num_of_gpus": "gpus", "num_gpus": "gpus",
}  # fmt: skip
_AMOUNT: Final = re.compile(r"(\d+(?:\.\d+)?)(Mi|Gi|Ti)")


def add_cross_site_evaluation(
    recipe: Recipe,
    submit_model_timeout: float = 600,
    validation_timeout: float = 6000,
    participating_clients: Sequence[str] | None = None,
) -> None:
    """Have every site judge the final model, and those of the other sites, after the training.

    ``cross_site_val/cross_val_results.json`` in the results has ``{site with the data: {owner of the model:
    metrics}}``. A recipe that only evaluates does so already.

    Args:
        recipe: A recipe whose framework is known.
        submit_model_timeout: How long sites may take to send their own model, in seconds.
        validation_timeout: How long sites may take to judge a model, in seconds.
        participating_clients: Which sites take part; None: all that are connected when it starts.

    Raises:
        ValueError: The recipe's framework is not known, or another parameter cannot be used.
        RuntimeError: It was added before.
    """
    _evaluate(recipe, cross_site_settings(submit_model_timeout, validation_timeout, participating_clients))


def add_final_global_evaluation(
    recipe: Recipe, participating_clients: Sequence[str] | None = None, validation_timeout: float = 6000
) -> None:
    """Have every site judge the final model after the training, and no other model.

    Results are where those of :func:`add_cross_site_evaluation` are, for the model of ``server`` only. A recipe that
    only evaluates does so already.

    Args:
        recipe: A recipe whose framework is known.
        participating_clients: Which sites judge; None: all that are connected when it starts.
        validation_timeout: How long sites may take, in seconds.

    Raises:
        ValueError: The recipe's framework is not known, or another parameter cannot be used.
        RuntimeError: This, or a cross-site evaluation, was added before.
    """
    settings = cross_site_settings(validation_timeout, validation_timeout, participating_clients)
    _evaluate(recipe, {**settings, "only_final": True})


def _evaluate(recipe: Recipe, settings: dict[str, Any]) -> None:
    if recipe.framework not in _EVALUATED:
        said = f"{recipe.framework!r} cannot be evaluated so" if recipe.framework else "the recipe does not say its own"
        raise ValueError(f"framework: {said}; known: {', '.join(_EVALUATED)}")
    if recipe.job.settings.get("workflow") == _EVALUATION:
        return
    if "cross_site_evaluation" in recipe.job.of_workflow:
        raise RuntimeError("an evaluation of the final model, or across sites, was added before")
    recipe.job.of_workflow["cross_site_evaluation"] = settings


def cross_site_settings(submit: float, validation: float, sites: Sequence[str] | None) -> dict[str, Any]:
    """Settings of a cross-site evaluation."""
    found: dict[str, Any] = {
        "submit_model_timeout": number("submit_model_timeout", submit, above=0),
        "validation_timeout": number("validation_timeout", validation, above=0),
    }
    return found if sites is None else {"sites": site_names("participating_clients", sites), **found}


def add_experiment_tracking(  # noqa: PLR0917 - the documented signature
    recipe: Recipe,
    tracking_type: str,
    tracking_config: Mapping[str, Any] | None = None,
    client_side: bool = False,
    server_side: bool = True,
    clients: Sequence[str] | None = None,
) -> None:
    """Have the metrics of the job shown by a tracker, beside the server.

    Args:
        recipe: The recipe.
        tracking_type: Name of an installed tracker.
        tracking_config: Its settings.
        client_side: Must be False: the metrics of all sites come together at the server.
        server_side: Must be True.
        clients: Must be None, likewise.

    Raises:
        ValueError: There is no such tracker (says which was probably meant, or which package has it), its settings
            are wrong, or it is wanted at sites.
    """
    from flpoc.errors import FlpocError
    from flpoc.recipe.start import installed

    if not truth("server_side", server_side) and not truth("client_side", client_side):
        raise ValueError("server_side: switched off, and client_side is not on: then nothing is tracked")
    if truth("client_side", client_side) or clients is not None or not server_side:
        wrong = "clients" if clients is not None else "client_side"
        raise ValueError(f"{wrong}: trackers run beside the server, where the metrics of all sites come together")
    settings = plain("tracking_config", keyed("tracking_config", tracking_config or {}))
    try:
        installed().check("trackers", text("tracking_type", tracking_type), settings)
    except FlpocError as error:
        raise ValueError(f"tracking_type: {error.message}" + (f": {error.hint}" if error.hint else "")) from error
    trackers = recipe.job.settings.setdefault("tracking", [])
    if any(one["name"] == tracking_type for one in trackers):
        raise RuntimeError(f"add_experiment_tracking: {tracking_type!r} was added before")
    trackers.append({"name": tracking_type, "settings": settings})


def set_per_site_config(recipe: Recipe, config: Mapping[str, Mapping[str, Any]]) -> None:
    """The same as :meth:`Recipe.set_per_site_config`."""
    recipe.set_per_site_config(config)


def set_recipe_meta(recipe: Recipe, key: str, value: Any) -> None:
    """Say what a site must have to take part, or in which image it runs the script.

    ``resource_spec`` is ``{site or "@default": {cpus, memory_gib, gpus}}``; ``num_of_cpus``, ``num_of_gpus`` and
    ``memory`` (like ``"8Gi"``) say the same. ``launcher_spec`` is ``{site or "@default": {"docker": {"image": ...}}}``:
    sites whose launcher has images use it if their policy allows it, others run the script as it is.

    Raises:
        ValueError: It is another key (what a site's launcher and scope are, its policy decides), or cannot be used.
    """
    said = str(key).lower()
    if said not in _META:
        raise ValueError(f"key: {key!r} is none of {', '.join(_META)}")
    if said in ("scope", "custom_props"):
        cure = "say it with add_client_config" if said == "custom_props" else "each site's policy decides it"
        raise ValueError(f"key: {said} is not part of a job here: {cure}")
    read = _resources if said == "resource_spec" else _image
    scripts = recipe.job.settings.get("scripts", {})
    wanted = {"@default" if site == "default" else site: needs for site, needs in keyed(said, value).items()}
    for site, needs in sorted(wanted.items()):
        if site not in scripts and "@default" not in scripts:
            raise ValueError(f"{said}: nothing is said for {site!r}")
        scripts.setdefault(site, dict(scripts.get("@default", {})))
        _say(scripts, site, read(f"{said}.{site}", needs))


def _say(scripts: dict[str, dict[str, Any]], site: str, found: Mapping[str, Any]) -> None:
    """Say it of a site; what is said of all holds for those, too, of which it was not said otherwise."""
    before = dict(scripts[site])
    for name, entry in scripts.items():
        for key, value in found.items():
            if name == site or (site == "@default" and entry.get(key) == before.get(key)):
                entry[key] = value


def _resources(where: str, needs: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, amount in keyed(where, needs, _NEEDS).items():
        here, known = f"{where}.{name}", _NEEDS[name]
        said = _gibibytes(here, amount) if name == "memory" else amount
        found[known] = whole(here, said, 0) if known == "gpus" else number(here, said, above=0)
    return found


def _gibibytes(where: str, amount: Any) -> float:
    """``8Gi`` as 8.0."""
    found = _AMOUNT.fullmatch(amount) if isinstance(amount, str) else None
    if found is None:
        raise ValueError(f"{where}: {amount!r} is no amount of memory like '8Gi', '512Mi' or '1Ti'")
    return float(found[1]) * {"Mi": 1 / 1024, "Gi": 1.0, "Ti": 1024.0}[found[2]]


def _image(where: str, launchers: Any) -> dict[str, Any]:
    found = keyed(where, launchers)
    if set(found) - {"docker"}:
        raise ValueError(
            f"{where}: each site's policy decides its launcher; a job can say {{'docker': {{'image': ...}}}}"
        )
    of_docker = keyed(f"{where}.docker", found.get("docker", {}))
    if other := sorted(set(of_docker) - {"image"}):
        cure = (
            "resource_spec says what a script needs" if "gpu" in other[0] else "the site's launcher settings decide it"
        )
        raise ValueError(f"{where}.docker: {other[0]!r} is not part of a job here: {cure}")
    return {name: text(f"{where}.docker.{name}", image) for name, image in of_docker.items()}
