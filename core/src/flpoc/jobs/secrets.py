"""Secrets that a job names and a site has: a job carries their names only."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from flpoc.errors import JobError, UsageError

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
#: Written the same in every format of files, so that it is found in all of them.
PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|\}|$))[A-Za-z0-9._@%+=:,-]+){1,64}")
_PLACE = re.compile(rf"\{{secret:({NAME.pattern})\}}|\{{secret-file:({PATH.pattern})\}}")
_HINT: Final = "a site's policy gives it (environments in local/policy.json); a simulation takes it from where it runs"


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


def secret_file_ref(path: str) -> str:
    """The same for a secret that is named by the file of each site that has it.

    It becomes the file's text, without the newline at its end. The site's policy must grant the file to jobs of the
    study (`secret_files` in `environments`). A simulation reads the file of the machine that it runs on.

    Args:
        path: Absolute path at the sites, up to 1,024 characters: letters, digits and `._@%+=:,-`, without `.` and `..`.

    Raises:
        UsageError: It is no such path.
    """
    if len(path) > 1024 or not PATH.fullmatch(path):
        raise UsageError(f"{path[:80]!r} is not the path of a secret", hint="it is absolute, like /run/secrets/token")
    return f"{{secret-file:{path}}}"


def secrets_in(texts: Iterable[str]) -> list[str]:
    """The names of secrets in *texts*, each once, in order."""
    return list(dict.fromkeys(found[1] for text in texts for found in _PLACE.finditer(text) if found[1]))


def secret_files_in(texts: Iterable[str]) -> list[str]:
    """The paths of secrets in *texts*, each once, in order."""
    return list(dict.fromkeys(found[2] for text in texts for found in _PLACE.finditer(text) if found[2]))


def keeps_place(texts: Iterable[str]) -> bool:
    """Whether a place is kept for a secret."""
    return any(_PLACE.search(text) for text in texts)


def file_variable(path: str) -> str:
    """The variable in which the process of a script finds the text of a secret file."""
    return f"FLPOC_SECRET_{hashlib.sha256(path.encode()).hexdigest()[:32]}"


def with_secrets(value: Any, environment: Mapping[str, str] = os.environ) -> Any:
    """A text, or lists and tables of them, with secrets in the places that are kept for them.

    Raises:
        JobError: There is none of a name.
    """
    if isinstance(value, str):
        return _PLACE.sub(lambda place: _secret(place[1], place[2], environment), value)
    if isinstance(value, Mapping):
        return {key: with_secrets(one, environment) for key, one in value.items()}
    if isinstance(value, list):
        return [with_secrets(one, environment) for one in value]
    return value


def _secret(name: str | None, path: str | None, environment: Mapping[str, str]) -> str:
    variable = name or file_variable(path or "")
    if variable in environment:
        return environment[variable]
    raise JobError(
        f"there is no secret {name!r} here" if name else f"there is no secret file {path!r} here", hint=_HINT
    )
