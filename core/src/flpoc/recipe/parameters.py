"""Checks of what a recipe is given; each names the parameter."""

from __future__ import annotations

import enum
import json
import math
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any, Final

from flpoc.errors import did_you_mean
from flpoc.jobs.names import JOB_NAME, SITE_NAME

#: Words that stand for something else than a site.
RESERVED: Final = ("server", "@ALL", "@default")
_CONDITION: Final = re.compile(r"(\S+) (<=|>=|<|>|=) (\S+)")


def given_of(names: Mapping[str, Any]) -> dict[str, Any]:
    """What a constructor was given, from its ``locals()``."""
    return {name: value for name, value in names.items() if name not in ("self", "__class__")}


def job_name(value: Any) -> str:
    if not isinstance(value, str) or not JOB_NAME.match(value):
        raise ValueError(f"name: {value!r} is not a job name (letters, digits, . _ -)")
    return value


def site_name(name: str, value: Any) -> str:
    if value in RESERVED or not isinstance(value, str) or not SITE_NAME.match(value):
        raise ValueError(f"{name}: {value!r} is no name of a site")
    return value


def site_names(name: str, value: Any) -> list[str]:
    """Names of sites, at least one and each once."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError(f"{name}: wanted is a list of names of sites, not {value!r}")
    found = [site_name(name, one) for one in value]
    if not found:
        raise ValueError(f"{name}: name at least one site")
    if len({one.casefold() for one in found}) != len(found):
        raise ValueError(f"{name}: a site is named twice")
    return found


def whole(name: str, value: Any, low: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= 1_000_000:
        raise ValueError(f"{name}: {value!r} is not allowed: it must be a whole number from {low} to 1000000")
    return value


def seed_of(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f"seed: {value!r} is not a whole number of 64 bits")
    return value


def number(name: str, value: Any, *, above: float | None = None) -> float:
    """A finite number from 0 on, or greater than *above*."""
    low = -math.inf if above is None else above
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not (value >= 0 if above is None else value > low):
        least = "from 0 on" if above is None else f"greater than {above:g}"
        raise ValueError(f"{name}: {value!r} is not allowed: it must be a number {least}")
    return float(value)


def text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name}: wanted is a text, not {value!r}")
    return value


def truth(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name}: wanted is True or False, not {value!r}")
    return value


def word(name: str, value: Any, kind: type[enum.StrEnum]) -> str:
    """One of the words of *kind*, as plain text."""
    known = [str(one) for one in kind]
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name}: {value!r} is none of {', '.join(known)}")
    return str(value)


def words(name: str, value: Any) -> list[str]:
    """Arguments or a command: one text that is split as a shell would, or a list."""
    if isinstance(value, str):
        try:
            value = shlex.split(value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}: {value!r}") from None
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
        raise ValueError(f"{name}: wanted is a text, or a list of texts, not {value!r}")
    return list(value)


def keyed(name: str, value: Any, known: Iterable[str] | None = None) -> dict[str, Any]:
    """Keys and values, with *known* keys only."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{name}: wanted are keys and values, not {type(value).__name__}")
    for key in value:
        if known is not None and key not in known:
            raise ValueError(f"{name}: {key}: {did_you_mean(str(key), known) or 'no such key'}")
        if not isinstance(key, str):
            raise ValueError(f"{name}: {key!r} is no text")
    return dict(value)


def plain(name: str, value: Any) -> Any:
    """A value as JSON has it, a copy.

    Raises:
        ValueError: It cannot be written down so; says which part.
    """
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"{name}: the key {key!r} is no text")
        return {key: plain(f"{name}.{key}", inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(f"{name}[{place}]", inner) for place, inner in enumerate(value)]
    if value is None or isinstance(value, (str, bool)):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, int) and -(1 << 63) <= value < 1 << 63:
        return int(value)
    raise ValueError(f"{name}: {_shown(value)} cannot be written into a job: wanted is plain JSON data")


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, (int, float)) else type(value).__name__


def pattern(name: str, value: Any) -> str:
    """A regular expression."""
    try:
        re.compile(text(name, value))
    except re.error as error:
        raise ValueError(f"{name}: {value!r} is not a regular expression: {error}") from None
    return str(value)


def factors(name: str, value: Any) -> dict[str, float]:
    """By how much each named site counts more or less."""
    return {site_name(name, site): number(f"{name}[{site!r}]", factor) for site, factor in keyed(name, value).items()}


def best_by(key_metric: Any, mode: Any, condition: Any, patience: Any) -> dict[str, Any]:
    """What says which model is the best, and when a job is good enough.

    The mode, if it is not given, follows from a condition about the same metric; else more is better.
    """
    found: dict[str, Any] = {"key_metric": text("key_metric", key_metric)}
    inferred = None
    if condition is not None:
        metric, operator = _condition(condition)
        found["stop_cond"] = condition
        if metric == key_metric and operator != "=":
            inferred = "max" if operator.startswith(">") else "min"
    if mode is not None and mode not in ("max", "min"):
        raise ValueError(f"key_metric_mode: {mode!r} is neither 'max' nor 'min'")
    if mode and inferred and mode != inferred:
        raise ValueError(f"key_metric_mode: {mode!r} contradicts stop_cond {condition!r}, which wants {inferred!r}")
    found["key_metric_mode"] = mode or inferred or "max"
    if patience is not None:
        if condition is None:
            raise ValueError("patience: it needs a stop_cond: what is an improvement follows from it")
        found["patience"] = whole("patience", patience)
    return found


def _condition(value: Any) -> tuple[str, str]:
    found = _CONDITION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"stop_cond: {value!r} is not 'METRIC OP NUMBER' with OP one of <= = >= < >")
    try:
        is_finite = math.isfinite(float(found[3]))
    except ValueError:
        is_finite = False
    if not is_finite:
        raise ValueError(f"stop_cond: {found[3]!r} is no number")
    return found[1], found[2]


def json_text(data: Any) -> str:
    """Plain data as the text of a file."""
    return json.dumps(data, indent=2) + "\n"
