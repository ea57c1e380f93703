"""Secrets that a job names and a site has: a job carries their names only."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from flpoc.errors import JobError, UsageError

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_PLACE = re.compile(rf"\{{secret:({NAME.pattern})\}}")


def secret_ref(name: str) -> str:
    """Text that stands for a secret of each site, in arguments of a script and in what `client_config` gives.

    A site's `local/policy.json` says which secrets jobs of a study have (`environments`). A simulation takes them from
    its environment.

    Args:
        name: The secret's name, like that of an environment variable.

    Raises:
        UsageError: It is no such name.
    """
    if not NAME.fullmatch(name):
        raise UsageError(f"{name[:80]!r} is not the name of a secret", hint="like that of a variable: DB_PASSWORD")
    return f"{{secret:{name}}}"


def secrets_in(texts: Iterable[str]) -> list[str]:
    """The names of secrets in *texts*, each once, in order."""
    return list(dict.fromkeys(name for text in texts for name in _PLACE.findall(text)))


def with_secrets(value: Any, environment: Mapping[str, str] = os.environ) -> Any:
    """A text, or lists and tables of them, with secrets in the places that are kept for them.

    Raises:
        JobError: There is none of a name.
    """
    if isinstance(value, str):
        return _PLACE.sub(lambda place: _secret(place[1], environment), value)
    if isinstance(value, Mapping):
        return {key: with_secrets(one, environment) for key, one in value.items()}
    if isinstance(value, list):
        return [with_secrets(one, environment) for one in value]
    return value


def _secret(name: str, environment: Mapping[str, str]) -> str:
    if name in environment:
        return environment[name]
    hint = "a site's policy gives it (environments in local/policy.json); a simulation takes it from its environment"
    raise JobError(f"there is no secret {name!r} here", hint=hint)
