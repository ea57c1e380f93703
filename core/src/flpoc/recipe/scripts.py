"""What the sites of a job run, from the parameters of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Final

from flpoc.recipe.kinds import ExchangeFormat, FrameworkType, TransferType
from flpoc.recipe.parameters import keyed, number, site_name, text, truth, whole, word, words

#: Parameters that can be given by site, too.
PER_SITE: Final = (
    "train_script", "train_args", "launch_external_process", "command", "framework", "server_expected_format",
    "params_transfer_type", "launch_once", "launch_timeout", "shutdown_timeout",
)  # fmt: skip
#: Adapters of frameworks by the words of recipes; NumPy needs none.
ADAPTERS: Final = {"pytorch": "pytorch", "tensorflow": "tensorflow", "numpy": "", "raw": ""}
#: The Python of the site, which is what runs a script without a command.
_PYTHON: Final = (["python3", "-u"], ["python", "-u"], ["python3"], ["python"])
#: As good as no limit: a year.
_NO_LIMIT: Final = 31_536_000.0
_GENERAL: Final = "@default"


def of_scripts(given: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Say what every site runs; gives settings of the job, and the scripts on this machine.

    Args:
        given: Parameters of a recipe; those that it does not have count as their defaults.

    Raises:
        ValueError: A parameter cannot be used.
    """
    entry = script_entry(given, "")
    settings: dict[str, Any] = {"scripts": {_GENERAL: entry}, "timeouts": {"join_timeout": _join_timeout(given, "")}}
    if entry["framework"]:
        settings["plugins"] = [f"frameworks/{entry['framework']}"]
    scripts: tuple[str, ...] = (str(given["train_script"]),)
    if given.get("per_site_config") is not None:
        scripts = merge_per_site(settings, scripts, given["per_site_config"])
    return settings, scripts


def merge_per_site(
    settings: dict[str, Any], scripts: tuple[str, ...], config: Mapping[str, Mapping[str, Any]]
) -> tuple[str, ...]:
    """Write what is different at some sites into a job's settings; gives all scripts on this machine.

    Raises:
        ValueError: A site or a key cannot be used.
    """
    general = settings.get("scripts", {}).get(_GENERAL)
    if general is None or "framework" not in general:
        raise ValueError("per_site_config: the job says nothing for all sites that could be different")
    found: dict[str, Any] = {}
    patience = settings.setdefault("timeouts", {})
    for site, entry in keyed("per_site_config", config).items():
        where = f"per_site_config[{site_name('per_site_config', site)!r}]"
        said = keyed(where, entry, PER_SITE)
        found[site] = script_entry(said, f"{where}: ", general)
        scripts = (*scripts, *([str(said["train_script"])] if "train_script" in said else []))
        if "launch_timeout" in said:
            patience["join_timeout"] = max(patience.get("join_timeout", 0), _join_timeout(said, f"{where}: "))
    settings["scripts"] |= found
    if any(one["framework"] != general["framework"] for one in found.values()):
        settings.pop("plugins", None)  # what every site must have
    return tuple(dict.fromkeys(scripts))


def script_entry(given: Mapping[str, Any], where: str, general: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What one site runs; what is not given is as in *general*, or the default."""
    entry: dict[str, Any] = dict(general or {})
    if "train_script" in given or general is None:
        entry["script"] = PurePath(text(f"{where}train_script", given.get("train_script"))).name
    if "train_args" in given or general is None:
        entry["args"] = words(f"{where}train_args", given.get("train_args", ""))
    if {"command", "launch_external_process"} & set(given) or general is None:
        entry["command"] = _command(given, where)
    if "framework" in given or general is None:
        entry["framework"] = ADAPTERS[word(f"{where}framework", given.get("framework", "numpy"), FrameworkType)]
    if "params_transfer_type" in given or general is None:
        entry["transfer_type"] = word(
            f"{where}params_transfer_type", given.get("params_transfer_type", "FULL"), TransferType
        )
    if "launch_once" in given or general is None:
        entry["launch_once"] = truth(f"{where}launch_once", given.get("launch_once", True))
    if "shutdown_timeout" in given or general is None:
        entry["shutdown_timeout"] = number(f"{where}shutdown_timeout", given.get("shutdown_timeout", 0.0))
    if general is None:
        entry["memory_gc_rounds"] = whole("client_memory_gc_rounds", given.get("client_memory_gc_rounds", 0), 0)
        entry["cuda_empty_cache"] = truth("cuda_empty_cache", given.get("cuda_empty_cache", False))
    word(f"{where}server_expected_format", given.get("server_expected_format", "numpy"), ExchangeFormat)
    return entry


def _command(given: Mapping[str, Any], where: str) -> list[str]:
    """What stands before the script; a script is always a process of its own, by default of the site's Python."""
    external = truth(f"{where}launch_external_process", given.get("launch_external_process", "command" in given))
    found = words(f"{where}command", given.get("command", "python3 -u"))
    return [] if not external or found in _PYTHON else found


def _join_timeout(given: Mapping[str, Any], where: str) -> float:
    value = given.get("launch_timeout", 300.0)
    return _NO_LIMIT if value is None else number(f"{where}launch_timeout", value, above=0)
