"""Secrets that a job would carry to every site."""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from flpoc.jobs.secrets import keeps_place

if TYPE_CHECKING:
    from flpoc.recipe.job import Job

_KEY: Final = re.compile(r"(?i)(^|[-_.])(password|passwd|passphrase|secret|token|api[-_]?key|access[-_]?key)$")
_VALUE: Final = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_\w{30,}|\bhf_\w{30,}|://[^/\s:@]+:[^/\s@]+@"
)


class SecretWarning(UserWarning):
    """A job seems to carry a secret, which every site and everybody who may see the job could read."""


def warn_of_secrets(job: Job) -> None:
    """Warn of arguments and settings of a job that look like secrets; none of them is repeated."""
    said = {**job.settings, "client_config": job.client_config, "server_config": job.server_config}
    for where in _secrets(said, ""):
        warnings.warn(
            f"{job.name}: {where} looks like a secret; every site and everybody who may see the job could read it. "
            "Name a secret of each site with flpoc.recipe.secret_ref, or let the script read it there",
            SecretWarning,
            stacklevel=3,
        )


def _secrets(value: Any, where: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            here = f"{where}.{key}" if where else str(key)
            if _KEY.search(str(key)) and isinstance(inner, str) and inner and not keeps_place([inner]):
                yield here
            else:
                yield from _secrets(inner, here)
    elif isinstance(value, (list, tuple)):
        words = [*value, None]
        for place, (word, after) in enumerate(itertools.pairwise(words)):
            option, equals, rest = str(word).partition("=")
            given = rest if equals else after if isinstance(after, str) and not after.startswith("-") else ""
            if (
                isinstance(word, str)
                and option.startswith("-")
                and _KEY.search(option)
                and given
                and not keeps_place([given])
            ):
                yield f"{where} {option}"
            else:
                yield from _secrets(word, f"{where}[{place}]")
    elif isinstance(value, str) and _VALUE.search(value):
        yield where
