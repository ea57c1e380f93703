"""The data that a site's policy grants to jobs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from flpoc.errors import ConfigError
from flpoc.launching import Mount
from flpoc.settings import structure


@attrs.frozen
class Dataset:
    """A file or folder of the site that jobs may use.

    Attributes:
        source: Where it is, absolute.
        mode: ``ro``: jobs may read it; ``rw``: they may also change it.
    """

    source: str
    mode: Literal["ro", "rw"] = "ro"


def granted(datasets: Mapping[str, Any]) -> dict[str, Mount]:
    """What the policy's ``datasets`` grant, by name: of each a path, or a table with ``source`` and ``mode``.

    Raises:
        ConfigError: An entry is wrong.
    """
    mounts = {}
    for name, value in datasets.items():
        where = f"local/policy.json: datasets.{name}"
        one = structure({"source": value} if isinstance(value, str) else value, Dataset, where=where)
        if not Path(one.source).is_absolute():
            raise ConfigError(f"{where}: {one.source!r} is not an absolute path", hint="begin it with /")
        mounts[name] = Mount(one.source, one.source, writable=one.mode == "rw")
    return mounts
