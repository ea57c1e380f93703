"""Telling a script's author that it was confinement that denied something, and who can grant it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path


def hint_for(error: BaseException) -> str | None:
    """Say what to do about a denial of the kernel's; None for what has other reasons.

    The modes of files are asked: what they allow and the kernel denied, this process gave up.
    """
    if not _is_confined():
        return None
    for one in _chain(error):
        if isinstance(one, OSError) and one.errno == errno.EACCES:
            if one.filename is None:
                return "jobs are confined here: they reach no network, only their own site's agent"
            if path := _denied(one):
                return (
                    f'jobs are confined here and were not granted {path}: name its folder under "datasets" in the'
                    " site's local/policy.json and start the site again, or use the data folder of a POC's workspace"
                )
    return None


def _is_confined() -> bool:
    """Whether this process gave up privileges for good; Landlock demands it and cannot be asked itself."""
    try:
        return "\nNoNewPrivs:\t1\n" in Path("/proc/self/status").read_text(encoding="ascii")
    except (OSError, ValueError):
        return False


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that led to it."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__


def _denied(error: OSError) -> str:
    """The path that was denied although its mode, or that of its folder, allows it; else empty."""
    for name in (error.filename, error.filename2):
        if not isinstance(name, (str, bytes)):
            continue
        path = Path(os.fsdecode(name)).absolute()
        wanted = path if path.exists() else path.parent
        # what was wanted is not known: to read what can be read, or to write where that is allowed
        if os.access(wanted, os.R_OK) or os.access(wanted, os.W_OK):
            return str(path)
    return ""
